"""The population: members in lanes, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vaebench.core.compiled import Compiled
from vaebench.data._batches import Batch, Batches, TrainingBatches
from vaebench.errors import require_kernels
from vaebench.training.experiment import Experiment
from vaebench.training.keeper import Keeper
from vaebench.training.population.lane import Lane, Logs, require_stackable
from vaebench.training.population.member import Member
from vaebench.training.population.threads import cores, side_by_side

STEPS, PASSES = (3, 12), 3  # of every member, to time how many step at once; the first pass does not count
NEARLY = 0.95  # of the best speed: as good, where more step at once
LONG = 120.0  # seconds of training: compiling, which takes about ten, then pays for itself


class Population:
    """Runs of any configuration, trained together epoch by epoch on one device, as one model where they can be.

    Members may differ in every 0-dim buffer (β, free bits, lengths of schedules), learning rates, clipping, seed,
    number of epochs and early stopping. Those that differ in shapes, constants, family or data are trained in turn;
    those of one structure in lanes: so many step at once as was measured to be fastest, and as one compiled function
    where that was measured to be faster still.

    Equality that is promised: a member's initial weights, order of images, training noise and validation noise are
    those of the same run under `vaebench fit`, whoever the other members are: each draws from a generator of its own,
    in the state that building its model has left. So it ends with the same weights, and keeps those of the same step,
    up to rounding: 1e-6 in float64; in float32 the rounding grows as training goes on. On a GPU that holds as far as
    torch's generators there give equal numbers to equal calls.

    Args:
        device: where all of it runs.
        lanes: members that step at once; None measures it when members of a structure first train.
        order: seed of the order of images for all members, whose batches are then the same; None takes each one's own.
            Members of one seed share their batches in any case.
        compile: whether steps may be compiled; None: where it is measured how many step at once, those of members that
            have minutes of training before them. It changes rounding only.

    Attributes:
        members: all that were added and not dropped, in their order.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        lanes: int | None = None,
        order: int | None = None,
        compile: bool | None = None,
    ) -> None:
        self.device, self.order, self.compile = torch.device(device), order, compile
        self.members: list[Member] = []
        self._lanes: list[Lane] = []
        self._fixed, self._paces = lanes, dict[str, Pace]()
        self._compiled: dict[tuple[str, int], Compiled] = {}
        self._batches: dict[str, tuple[TrainingBatches, Batches]] = {}
        self._accepted: set[str] = set()
        self._saved = time.perf_counter()
        torch.set_flush_denormal(True)

    @property
    def engine(self) -> dict[str, Any]:
        """The section of its members' configurations that names what trains them; see `Experiment.engine`."""
        return {"engine": {"name": "population", "order": self.order}}

    def add(self, job: Experiment, work: Path) -> Member:
        """Builds a run, which enters at the next epoch; one that was saved in `work` resumes from there.

        Args:
            job: the parsed run, whose configuration, and so identity, then names the population.
            work: the folder that it is saved in and exported to.

        Raises:
            UserError: the run cannot be trained in a population, for its family or for its trainer's options.
        """
        job.engine = self.engine
        member = Member(job, work, self.device, self.order)
        if member.source not in self._batches:
            member.data.device = self.device
            self._batches[member.source] = member.data.training_batches(job.seed), member.data.val_dataloader()
        if member.structure not in self._accepted:
            require_stackable(member, self._batches[member.source][0])
            self._accepted.add(member.structure)
        self.members.append(member)
        return member

    def drop(self, member: Member) -> None:
        """Takes a member out; it can still be exported."""
        self.members.remove(member)

    @require_kernels()
    def epoch(self) -> list[Member]:
        """Trains every member that is not done for one epoch and validates it; returns these members.

        Every 20 seconds all of them are saved.

        Raises:
            UserError: torch lacks an operation of a member's for its precision or on its device.
        """
        learning = [member for member in self.members if not member.done]
        self._arrange(learning)
        trained = side_by_side([partial(self._train, lane) for lane in self._lanes], self.device)
        for lane, (logs, seconds) in zip(self._lanes, trained, strict=True):
            start = time.perf_counter()
            training, held_out = self._batches[lane.members[0].source]
            measured = lane.each(lane.validate(held_out))
            share = (seconds + time.perf_counter() - start) / len(lane.members)
            images = min(lane.length * training.size, len(training.images))
            for member, learnt, own in zip(lane.members, lane.each(logs), measured, strict=True):
                if member.diverged is None:
                    member.ended(learnt, own, share, images)
        if time.perf_counter() - self._saved > Keeper.EVERY:
            for member in learning:
                if member.diverged is None:
                    member.save()
            self._saved = time.perf_counter()
        return learning

    def _train(self, lane: Lane) -> tuple[Logs, float]:
        """Trains a lane for an epoch; returns the means of its logs, and its share of the cores' seconds."""
        start = time.perf_counter()
        logs = lane.train(self._batches[lane.members[0].source][0])
        return logs, (time.perf_counter() - start) / min(len(self._lanes), cores(self.device))

    # Lanes --------------------------------------------------------------------------------------------------------

    def _arrange(self, learning: Sequence[Member]) -> None:
        """Stacks the members that learn, by structure and in lanes, if they are not those that are stacked already."""
        stacked = [member for lane in self._lanes for member in lane.members]
        if set(stacked) == set(learning) and all(m.length == lane.length for lane in self._lanes for m in lane.members):
            return
        for member in set(stacked) - set(learning):
            member.leave()
        self._lanes = []
        for (structure, *_), group in groupby(sorted(learning, key=_alike), _alike):
            members = list(group)
            side = min(len(members), cores(self.device))  # a lane for every core, if there are members for it
            pace = self._pace(structure, members)
            count = max(side, math.ceil(len(members) / pace.size))
            self._lanes += [self._lane(structure, members[i::count], pace.compiled) for i in range(count)]

    def _lane(self, structure: str, members: Sequence[Member], compiled: bool) -> Lane:
        """A lane; all of one structure and number of members share what was compiled."""
        if not compiled:
            return Lane(members)
        key = structure, len(members)
        if key in self._compiled:
            return Lane(members, self._compiled[key])
        self._compiled[key] = Compiled(f"the step of {len(members)} runs of {type(members[0].model).__name__}")
        lane = Lane(members, self._compiled[key])
        side_by_side([partial(lane.compile, self._batches[members[0].source][0])], self.device, alone=False)
        return lane

    def _pace(self, structure: str, members: Sequence[Member]) -> Pace:
        """The fastest way to train members, measured anew where more of them could be faster still."""
        if self._fixed is not None:
            return Pace(self._fixed, bool(self.compile), 0)
        known = self._paces.get(structure)
        if known is None or (len(members) > known.tried and 2 * known.size > known.tried):
            self._paces[structure] = known = self._measure(structure, members)
        return known

    def _measure(self, structure: str, members: Sequence[Member]) -> Pace:
        speeds = self._speeds(structure, members, False)
        steps = sum((member.budget.total or 0) - member.model.steps for member in members)
        long = steps / max(speeds.values()) > LONG
        if self.compile or (self.compile is None and long):
            speeds |= self._speeds(structure, members, True)
        best = max(speeds.values())
        size, compiled = max(how for how, speed in speeds.items() if speed >= NEARLY * best)
        return Pace(size, compiled, len(members))

    def _speeds(self, structure: str, members: Sequence[Member], compiled: bool) -> dict[tuple[int, bool], float]:
        """Members' steps a second by how many step at once, of 1, 2, 4, … until more of them are slower."""
        most = math.ceil(len(members) / min(len(members), cores(self.device)))
        speeds: dict[tuple[int, bool], float] = {}
        for size in sorted({2**i for i in range(most.bit_length())} | {most}):
            try:
                speeds[size, compiled] = self._speed(structure, members, size, compiled)
            except torch.OutOfMemoryError:
                if not speeds:
                    raise
                break
            if speeds[size, compiled] < NEARLY * max(speeds.values()):
                break
        return speeds

    def _speed(self, structure: str, members: Sequence[Member], size: int, compiled: bool) -> float:
        """Members' steps a second with so many at once, by copies of them; the same work for every number."""
        training, _ = self._batches[members[0].source]
        twins = [[m.twin() for m in members[at : at + size]] for at in range(0, len(members), size)]
        lanes = [self._lane(structure, some, compiled) for some in twins]
        least, most = STEPS  # a small lane's gain from the cache shows after some
        steps = min(max(min(member.budget.total or 0 for member in members) // 100, least), most)
        batches = [list(islice(lane.batches(training), steps)) for lane in lanes]
        times = []
        for _ in range(PASSES):
            start = time.perf_counter()
            side_by_side([partial(_walk, *both) for both in zip(lanes, batches, strict=True)], self.device)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - start)
        return len(members) * len(batches[0]) / min(times[1:])


class Pace(NamedTuple):
    """The fastest way to train members of a structure.

    Attributes:
        size: so many step at once.
        compiled: their step is compiled.
        tried: of so many members it was measured.
    """

    size: int
    compiled: bool
    tried: int


def _walk(lane: Lane, batches: Sequence[Batch]) -> None:
    for x, y in batches:
        lane.step(x, y)


def _alike(member: Member) -> tuple[str, int, int]:
    """The key by which members share a lane."""
    return member.structure, member.length, member.budget.validation
