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

from vaebench.core.captured import wanted
from vaebench.core.compiled import Compiled
from vaebench.data._batches import Batch, Batches, TrainingBatches
from vaebench.errors import require_kernels
from vaebench.training.experiment import Experiment
from vaebench.training.keeper import Keeper
from vaebench.training.population.lane import Lane, Logs, require_stackable
from vaebench.training.population.member import Member
from vaebench.training.population.threads import cores, side_by_side

STEPS, PASSES = (3, 12), 3  # per member, for timing lanes; the first pass is a warm-up
NEARLY = 0.95  # of the best speed; a larger lane at this speed is preferred
LONG = 120.0  # seconds of training from which compiling, which takes about ten, is worthwhile


class Population:
    """Runs of any configuration, trained together epoch by epoch on one device, as one model where possible.

    Members may differ in every 0-dim buffer (β, free bits, lengths of schedules), learning rates, clipping, seed,
    number of epochs and early stopping. Members of different shapes, constants, family or data train in turn. Those of
    one structure train in lanes, whose size is timed to be the fastest, compiled where that is faster still.

    A member's initial weights, order of images, training noise and validation noise equal those of the same run under
    `vaebench fit`, for any other members: each has its own generator, in the state that the construction of its model
    has left. So it ends with the same weights and selects the same step, up to rounding: 1e-6 in float64; in float32
    rounding errors grow during training. On a GPU this requires that torch's generators are reproducible there.

    Args:
        device: of all computations.
        lanes: size of a lane; None times it when members of a structure first train.
        order: seed of the order of images for all members, which then share batches; None uses each member's own.
            Members of equal seed share batches in any case.
        compile: whether steps may be compiled; None compiles those of members with minutes of training left, where lane
            sizes are timed. It only affects rounding.

    Attributes:
        capture: whether steps are repeated as CUDA graphs; see `core.captured`.
        members: all members that were added and not dropped, in order.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        lanes: int | None = None,
        order: int | None = None,
        compile: bool | None = None,
    ) -> None:
        self.device, self.order, self.compile = torch.device(device), order, compile
        self.capture = wanted(self.device)
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
        """The section of its members' configurations that names the population; see `Experiment.engine`."""
        return {"engine": {"name": "population", "order": self.order}}

    def add(self, job: Experiment, work: Path) -> Member:
        """Builds a run, which starts at the next epoch, or resumes from a save in `work`.

        Args:
            job: the parsed run; its configuration, and so its identity, then includes the population.
            work: folder of its saves and exports.

        Raises:
            UserError: its family or an option of its trainer does not support populations.
        """
        job.engine = self.engine
        if job.known is None and self.members:  # one copy of the images, and of their hashes
            job.known = self.members[-1].data
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
        """Removes a member, which can still be exported."""
        self.members.remove(member)

    @require_kernels()
    def epoch(self) -> list[Member]:
        """Trains and validates every unfinished member for one epoch; returns these members.

        All of them are saved every 20 seconds.

        Raises:
            UserError: torch lacks an operation of a member for its precision or device.
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
        """Stacks the training members in lanes by structure, unless they already are."""
        stacked = [member for lane in self._lanes for member in lane.members]
        if set(stacked) == set(learning) and all(m.length == lane.length for lane in self._lanes for m in lane.members):
            return
        for member in set(stacked) - set(learning):
            member.leave()
        self._lanes = []
        for (structure, *_), group in groupby(sorted(learning, key=_alike), _alike):
            members = list(group)
            side = min(len(members), cores(self.device))  # a lane for every core, if there are enough members
            pace = self._pace(structure, members)
            count = max(side, math.ceil(len(members) / pace.size))
            self._lanes += [self._lane(structure, members[i::count], pace.compiled) for i in range(count)]

    def _lane(self, structure: str, members: Sequence[Member], compiled: bool) -> Lane:
        """A lane; lanes of equal structure and size share compiled steps."""
        if not compiled:
            return Lane(members, capture=self.capture)
        key = structure, len(members)
        if key in self._compiled:
            return Lane(members, self._compiled[key], self.capture)
        self._compiled[key] = Compiled(f"the step of {len(members)} runs of {type(members[0].model).__name__}")
        lane = Lane(members, self._compiled[key], self.capture)
        side_by_side([partial(lane.compile, self._batches[members[0].source][0])], self.device, alone=False)
        return lane

    def _pace(self, structure: str, members: Sequence[Member]) -> Pace:
        """The fastest way to train members, timed again where larger lanes may be faster."""
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
        """Members' steps per second by lane size 1, 2, 4, …, up to the first size that is slower."""
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
        """Members' steps per second for one lane size, timed on copies, with equal work for every size."""
        training, _ = self._batches[members[0].source]
        twins = [[m.twin() for m in members[at : at + size]] for at in range(0, len(members), size)]
        lanes = [self._lane(structure, some, compiled) for some in twins]
        least, most = STEPS  # a small lane benefits from the cache only after some
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
        size: members per lane.
        compiled: whether their step is compiled.
        tried: number of members in the timing.
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
