"""The population engine's worker: takes trials by the batch, trains them as one population, tells them one by one.

Which settings come next is asked while the other trials run, so that the sampler takes them for what it expects of
them (constant liar). Trials whose family cannot train in a population are trained by themselves, one after another.
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
from vaebench.sweep.storage.queue import Company, Heart, Outcome, most_together, patiently, take, tell
from vaebench.sweep.workers.reporting import Report
from vaebench.sweep.workers.trial import Trainings
from vaebench.sweep.workers.worker import Interruption, conclude, start_worker
from vaebench.training.population import Member, Population

MEMBERS = {"cpu": 16, "cuda": 64}  # at a time, where the sweep file does not say


@dataclass(eq=False)
class Entrant:
    """A trial in a population: a member for each of its seeds that has no record or checkpoint yet."""

    trial: Trial
    point: Point
    heart: Heart
    members: dict[int, Member]
    logs: dict[int, Log]

    def close(self, outcome: str) -> None:
        """Ends the logs of members that have no record, and so are not ended yet."""
        for log in self.logs.values():
            log.close(outcome)


class Crew:
    """A population and the trials in it.

    Args:
        sweep: the sweep.
        results: folder of the records.
        work: folder for unfinished trainings.
        device: where it trains.
        logbook: what follows the members.
    """

    def __init__(self, sweep: Sweep, results: Path, work: Path, device: str, logbook: Logbook | None = None) -> None:
        self.sweep, self.population = sweep, Population(device)
        self.trainings = Trainings(sweep, results, work, self.population.engine, logbook)
        self.alone = Trainings(sweep, results, work, logbook=logbook)
        self.size = sweep.engine.get("members", MEMBERS[device])
        self.entrants: list[Entrant] = []
        self.name = uuid4().hex  # of those that are in it now

    @property
    def company(self) -> Company:
        """As trials that may join it see it."""
        return Company(self.name, len(self.entrants))

    @property
    def room(self) -> bool:
        """Whether one more trial may enter."""
        taken = sum(len(entrant.members) for entrant in self.entrants)
        most = min((most_together(entrant.trial) for entrant in self.entrants), default=1)
        return not self.entrants or (taken + len(self.sweep.seeds) <= self.size and len(self.entrants) < most)

    def enter(self, trial: Trial, point: Point, heart: Heart) -> None:
        """Lets a trial enter at the next epoch.

        Raises:
            UserError: it cannot be trained in a population.
        """
        members: dict[int, Member] = {}
        logs: dict[int, Log] = {}
        try:
            for seed in self.sweep.seeds:
                job, run = self.trainings.plan(trial, point, seed)
                if run.pending:
                    members[seed] = self.population.add(job, run.scratch)
                    logs[seed] = run.open_log()
        except BaseException:
            self._drop(members.values())
            for log in logs.values():
                log.close("failed")
            raise
        self.entrants.append(Entrant(trial, point, heart, members, logs))
        self._report(self.entrants[-1])

    def epoch(self) -> list[tuple[Entrant, Callable[[], Outcome]]]:
        """Trains all for one epoch; returns the trials that end with it, each with what is left to do for it."""
        self.population.epoch()
        for entrant in self.entrants:
            for seed, member in entrant.members.items():
                entrant.logs[seed].history(member.history.curves)
        rests = [(entrant, self._rest(entrant)) for entrant in self.entrants]
        return [(entrant, rest) for entrant, rest in rests if rest is not None]

    def _rest(self, entrant: Entrant) -> Callable[[], Outcome] | None:
        for member in entrant.members.values():
            if member.diverged is not None:
                return partial(self.give_up, entrant, member.diverged)
        try:
            if self._pruned(entrant):
                return partial(self.give_up, entrant, TrialPruned())
        except UpdateFinishedTrialError as error:  # taken for dead, and ended by another worker
            return partial(self.give_up, entrant, error)
        done = all(member.done for member in entrant.members.values())
        return partial(self._finish, entrant) if done else None

    def leave(self, entrant: Entrant) -> None:
        """Takes a trial out of the population."""
        self.entrants.remove(entrant)
        entrant.close("finished")
        self._drop(entrant.members.values())

    def _drop(self, members: Iterable[Member]) -> None:
        for member in members:
            self.population.drop(member)

    def _pruned(self, entrant: Entrant) -> bool:
        """Reports the first seed's bound, as a trial alone does, and asks the pruner."""
        self._report(entrant)
        trial = entrant.trial
        first = entrant.members.get(self.sweep.seeds[0])
        if first is None or len(self.sweep.objectives) > 1 or BOUND not in first.history.curves:
            return False
        report = Report(trial, self.sweep.pruner["name"] != "none")
        return patiently(partial(report._report, first.bound, first.epoch))

    def _report(self, entrant: Entrant) -> None:
        """Notes how far a trial is."""
        if members := entrant.members.values():
            done = sum(member.fraction for member in members) + len(self.sweep.seeds) - len(members)
            bound = next(iter(members)).bound
            entrant.heart.report(entrant.trial, done / len(self.sweep.seeds), bound if math.isfinite(bound) else None)

    def give_up(self, entrant: Entrant, reason: Exception) -> Outcome:
        """Removes what a trial left, and raises the reason."""
        entrant.close("pruned" if isinstance(reason, TrialPruned) else "failed")
        for member in entrant.members.values():
            shutil.rmtree(member.work, ignore_errors=True)
        raise reason

    def _finish(self, entrant: Entrant) -> Outcome:
        """Exports every member, which its trial then records as if it had trained it."""
        for member in entrant.members.values():
            member.export()
        return self.trainings(entrant.trial, entrant.point, entrant.heart)


def train_together(
    sweep: Sweep, storage: RDBStorage, study: Study, crew: Crew, interruption: Interruption, go_on: Callable[[], bool]
) -> None:
    """Runs trials until nothing is left to take, as `worker.work` does, as many at a time as the crew has room for.

    An interruption is heard at the end of an epoch; members are then saved, and the trials given back.

    Raises:
        OSError: the disk failed; all trials are given back.
        KeyboardInterrupt: all trials are given back.
    """
    try:
        while not interruption.came:
            while (
                crew.room and go_on() and not interruption.came and (taken := take(sweep, storage, study, crew.company))
            ):
                _enter(storage, study, crew, *taken)
            if not crew.entrants:
                break
            try:
                ended = crew.epoch()
            except Exception as error:  # such as a device without memory: whose fault it is cannot be told
                if len(crew.entrants) > 1:
                    _part(study, crew, error)
                    continue
                ended = [(entrant, partial(crew.give_up, entrant, error)) for entrant in crew.entrants]
            for entrant, rest in ended:
                conclude(study, entrant.trial, rest)
                entrant.heart.__exit__()
                crew.leave(entrant)
        if interruption.came:
            for member in crew.population.members:
                member.save()
            for entrant in crew.entrants:
                entrant.close("interrupted")
            raise KeyboardInterrupt
    except (KeyboardInterrupt, OSError):
        for entrant in crew.entrants:
            tell(study, entrant.trial, state=TrialState.FAIL, interrupted=True)
        raise
    finally:
        for entrant in crew.entrants:
            entrant.heart.__exit__()


def _part(study: Study, crew: Crew, error: Exception) -> None:
    """Ends all trials as their worker's death would: they come back, fewer at a time, from where they were saved."""
    say = f"{len(crew.entrants)} trials failed together ({type(error).__name__}: {error}); fewer train at a time"
    print(say, file=sys.stderr, flush=True)
    for entrant in list(crew.entrants):
        entrant.close("failed")
        tell(study, entrant.trial, state=TrialState.FAIL)
        entrant.heart.__exit__()
        crew.leave(entrant)
    crew.name = uuid4().hex


def _enter(storage: RDBStorage, study: Study, crew: Crew, trial: Trial, point: Point) -> None:
    heart = Heart(storage, trial).__enter__()
    try:
        crew.enter(trial, point, heart)
    except UserError as error:
        print(f"trial {trial.number} trains by itself: {error}", file=sys.stderr, flush=True)
        conclude(study, trial, partial(crew.alone, trial, point, heart))
        heart.__exit__()


def main(argv: list[str] | None = None) -> int:
    """Works as `python -m vaebench.sweep.workers.population` in an engine's process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def make(sweep: Sweep, results: Path, work: Path, logbook: Logbook) -> Crew:
        return Crew(sweep, results, work, device, logbook)

    return start_worker(make, train_together, argv)


if __name__ == "__main__":
    sys.exit(main())
