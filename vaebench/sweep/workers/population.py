"""The population engine's worker: its trials train as one population and end one by one.

Settings are suggested while other trials run, whose pending results the sampler replaces by a constant liar. Trials of
families that cannot train in a population train solo, one after another.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import torch
from optuna import Study, Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from vaebench.curves import BOUND
from vaebench.errors import UserError
from vaebench.loggers import Log, Logbook
from vaebench.sweep.spec.space import Point
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import Outcome, TrialGroup, largest_group, patiently, take, tell
from vaebench.sweep.workers.pruning import PruningCallback
from vaebench.sweep.workers.trial import TrialRunner
from vaebench.sweep.workers.worker import Interruption, conclude, start_worker
from vaebench.training.population import Member, Population

MEMBERS = {"cpu": 16, "cuda": 64}  # default numbers at a time


@dataclass(eq=False)
class TrialMembers:
    """A trial in a population.

    Attributes:
        trial, point: the trial and its settings.
        heart: sends its heartbeats.
        members: of its seeds without a record or checkpoint.
        logs: of the same seeds.
    """

    trial: Trial
    point: Point
    heart: Heartbeat
    members: dict[int, Member]
    logs: dict[int, Log]

    def close(self, outcome: str) -> None:
        """Ends the logs of members without a record."""
        for log in self.logs.values():
            log.close(outcome)


class TrialPopulation:
    """A population and the trials in it.

    Args:
        sweep: the sweep.
        results: folder of the records.
        work: folder for unfinished trainings.
        device: of the training.
        logbook: of the members.
    """

    def __init__(self, sweep: Sweep, results: Path, work: Path, device: str, logbook: Logbook | None = None) -> None:
        self.sweep, self.population = sweep, Population(device)
        self.runner = TrialRunner(sweep, results, work, self.population.engine, logbook)
        self.solo = TrialRunner(sweep, results, work, logbook=logbook)
        self.size = sweep.engine.get("members", MEMBERS[device])
        self.trials: list[TrialMembers] = []
        self.name = uuid4().hex  # of those that are in it now

    @property
    def group(self) -> TrialGroup:
        """Its trials as a group of the queue."""
        return TrialGroup(self.name, len(self.trials))

    @property
    def has_room(self) -> bool:
        """Whether one more trial may be added."""
        taken = sum(len(one.members) for one in self.trials)
        most = min((largest_group(one.trial) for one in self.trials), default=1)
        return not self.trials or (taken + len(self.sweep.seeds) <= self.size and len(self.trials) < most)

    def add(self, trial: Trial, point: Point, heart: Heartbeat) -> None:
        """Adds a trial, which starts training at the next epoch.

        Raises:
            UserError: it cannot be trained in a population.
        """
        members: dict[int, Member] = {}
        logs: dict[int, Log] = {}
        try:
            for seed in self.sweep.seeds:
                job, run = self.runner.plan(trial, point, seed)
                if run.pending:
                    members[seed] = self.population.add(job, run.scratch)
                    logs[seed] = run.open_log()
        except BaseException:
            self._drop(members.values())
            for log in logs.values():
                log.close("failed")
            raise
        self.trials.append(TrialMembers(trial, point, heart, members, logs))
        self._report_progress(self.trials[-1])

    def epoch(self) -> list[tuple[TrialMembers, Callable[[], Outcome]]]:
        """Trains all members for one epoch; returns the trials that end with it, each with its remaining work."""
        self.population.epoch()
        for one in self.trials:
            for seed, member in one.members.items():
                one.logs[seed].history(member.history.curves)
        ends = [(one, self._end(one)) for one in self.trials]
        return [(one, end) for one, end in ends if end is not None]

    def _end(self, one: TrialMembers) -> Callable[[], Outcome] | None:
        """The remaining work on a trial that ends now; None where it continues."""
        for member in one.members.values():
            if member.diverged is not None:
                return partial(self.give_up, one, member.diverged)
        try:
            if self._is_pruned(one):
                return partial(self.give_up, one, TrialPruned())
        except UpdateFinishedTrialError as error:  # another worker has failed it as dead
            return partial(self.give_up, one, error)
        done = all(member.done for member in one.members.values())
        return partial(self._finish, one) if done else None

    def remove(self, one: TrialMembers) -> None:
        """Removes a trial from the population."""
        self.trials.remove(one)
        one.close("finished")
        self._drop(one.members.values())

    def _drop(self, members: Iterable[Member]) -> None:
        for member in members:
            self.population.drop(member)

    def _is_pruned(self, one: TrialMembers) -> bool:
        """Reports the first seed's bound, as a solo trial does; returns whether the pruner stops it."""
        self._report_progress(one)
        first = one.members.get(self.sweep.seeds[0])
        if first is None or len(self.sweep.objectives) > 1 or BOUND not in first.history.curves:
            return False
        callback = PruningCallback(one.trial, self.sweep.pruner["name"] != "none")
        return patiently(partial(callback.report, first.model, first.bound, first.epoch))

    def _report_progress(self, one: TrialMembers) -> None:
        """Reports a trial's progress."""
        if members := one.members.values():
            done = sum(member.fraction for member in members) + len(self.sweep.seeds) - len(members)
            bound = next(iter(members)).bound
            one.heart.report(one.trial, done / len(self.sweep.seeds), bound if math.isfinite(bound) else None)

    def give_up(self, one: TrialMembers, reason: Exception) -> Outcome:
        """Cleans up after a trial, and raises the reason."""
        one.close("pruned" if isinstance(reason, TrialPruned) else "failed")
        for member in one.members.values():
            shutil.rmtree(member.work, ignore_errors=True)
        raise reason

    def _finish(self, one: TrialMembers) -> Outcome:
        """Exports every member; the checkpoints are then recorded as those of a solo trial."""
        for member in one.members.values():
            member.export()
        return self.runner(one.trial, one.point, one.heart)


def work_population(
    sweep: Sweep,
    storage: RDBStorage,
    study: Study,
    population: TrialPopulation,
    interruption: Interruption,
    go_on: Callable[[], bool],
) -> None:
    """Runs trials until none is left, as `worker.work` does, as many at a time as fit.

    An interruption takes effect at the end of an epoch; members are then saved, and the trials returned to the queue.

    Raises:
        OSError: the disk failed; all trials are returned.
        KeyboardInterrupt: all trials are returned.
    """
    try:
        while not interruption.came:
            while (
                population.has_room
                and go_on()
                and not interruption.came
                and (taken := take(sweep, storage, study, population.group))
            ):
                _add(storage, study, population, *taken)
            if not population.trials:
                break
            try:
                ended = population.epoch()
            except Exception as error:  # such as a lack of memory, which any trial may have caused
                if len(population.trials) > 1:
                    _fail_together(study, population, error)
                    continue
                ended = [(one, partial(population.give_up, one, error)) for one in population.trials]
            for one, end in ended:
                conclude(study, one.trial, end)
                one.heart.__exit__()
                population.remove(one)
        if interruption.came:
            for member in population.population.members:
                member.save()
            for one in population.trials:
                one.close("interrupted")
            raise KeyboardInterrupt
    except (KeyboardInterrupt, OSError):
        for one in population.trials:
            tell(study, one.trial, state=TrialState.FAIL, interrupted=True)
        raise
    finally:
        for one in population.trials:
            one.heart.__exit__()


def _fail_together(study: Study, population: TrialPopulation, error: Exception) -> None:
    """Ends all trials like the death of their worker: they are retried from their saves, fewer at a time."""
    count = len(population.trials)
    sentence = f"{count} trials failed together ({type(error).__name__}: {error}); fewer train at a time"
    print(sentence, file=sys.stderr, flush=True)
    for one in list(population.trials):
        one.close("failed")
        tell(study, one.trial, state=TrialState.FAIL)
        one.heart.__exit__()
        population.remove(one)
    population.name = uuid4().hex


def _add(storage: RDBStorage, study: Study, population: TrialPopulation, trial: Trial, point: Point) -> None:
    heart = Heartbeat(storage, trial).__enter__()
    try:
        population.add(trial, point, heart)
    except UserError as error:
        print(f"trial {trial.number} trains by itself: {error}", file=sys.stderr, flush=True)
        conclude(study, trial, partial(population.solo, trial, point, heart))
        heart.__exit__()


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m vaebench.sweep.workers.population`, which engines start."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def make(sweep: Sweep, results: Path, work: Path, logbook: Logbook) -> TrialPopulation:
        return TrialPopulation(sweep, results, work, device, logbook)

    return start_worker(make, work_population, argv)


if __name__ == "__main__":
    sys.exit(main())
