"""One worker: takes trials from the storage, one after another, until nothing is left to take.

It keeps nothing between trials. A trial is, for each seed, a training, an ordinary record under `results/<sweep>/` and
the figures of the validation images; a record's folder is named after all that determines its content, so that a trial
that comes back finds the record its predecessor wrote, and nothing is written twice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from lightning import Callback, LightningModule, Trainer
from optuna import Study, Trial, TrialPruned
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from vaebench.api import data_module
from vaebench.data.base import ImageData
from vaebench.errors import UserError
from vaebench.evaluation import VERSION
from vaebench.explain import experiment
from vaebench.records import canonical
from vaebench.runs import record_id, record_run
from vaebench.sweep.figures import combined, held_out
from vaebench.sweep.plan import BOUND, Sweep, read_sweep
from vaebench.sweep.space import Point
from vaebench.sweep.study import connect, load
from vaebench.sweep.turns import Heart, first, patiently, take, tell

AWAY = 3  # exit code: the disk or the storage failed, which another trial would meet too
ADDRESS = "VAEBENCH_STORAGE"  # in the environment: an address may hold a password


class Outcome(NamedTuple):
    """What a finished trial is told by: its objectives, constraints (0 or less where they hold), figures, records."""

    values: list[float]
    constraints: dict[str, float]
    figures: dict[str, Any]
    records: list[str]


Run = Callable[[Trial, Point, Heart], Outcome]


class Interruption:
    """SIGINT, heard at once inside `heard` blocks and remembered outside, so that bookkeeping is never cut short."""

    def __init__(self) -> None:
        self.came, self._open = False, False
        signal.signal(signal.SIGINT, self._hear)

    def _hear(self, _: int, __: FrameType | None) -> None:
        self.came = True
        if self._open:
            raise KeyboardInterrupt

    @contextmanager
    def heard(self) -> Iterator[None]:
        """A block that SIGINT ends with a KeyboardInterrupt."""
        self._open = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False
            signal.signal(signal.SIGINT, self._hear)  # Lightning puts its own


def work(
    sweep: Sweep, storage: RDBStorage, study: Study, run: Run, interruption: Interruption, go_on: Callable[[], bool]
) -> None:
    """Runs trials until nothing is left to take, `go_on()` is false, or an interruption.

    Args:
        sweep, storage, study: where trials come from.
        run: one trial; it raises `TrialPruned`, or whatever the trial failed by.
        interruption: of this process.
        go_on: asked before each trial.

    Raises:
        OSError: the disk failed; the trial is given back.
        KeyboardInterrupt: the trial is given back.
    """
    while go_on() and not interruption.came and (taken := take(sweep, storage, study)):
        trial, point = taken
        with Heart(storage, trial) as heart:
            try:
                with interruption.heard():
                    outcome = run(trial, point, heart)
            except (KeyboardInterrupt, OSError):
                tell(study, trial, state=TrialState.FAIL, interrupted=True)
                raise
            except TrialPruned:
                tell(study, trial, state=TrialState.PRUNED)
            except (UpdateFinishedTrialError, StorageInternalError, SQLAlchemyError) as error:
                if not isinstance(error, UpdateFinishedTrialError):
                    raise
            except Exception as error:
                tell(study, trial, state=TrialState.FAIL, error=f"{type(error).__name__}: {error}"[:500])
            else:
                _finish(study, trial, outcome)
    if interruption.came:
        raise KeyboardInterrupt


def _finish(study: Study, trial: Trial, outcome: Outcome) -> None:
    def constrain() -> None:
        noted = trial.storage.get_trial_system_attrs(trial._trial_id)
        for name, value in outcome.constraints.items():
            if f"constraints:{name}" not in noted:
                trial.set_constraint(name, value)

    try:
        patiently(constrain)
    except UpdateFinishedTrialError:
        return
    tell(study, trial, outcome.values, figures=outcome.figures, records=outcome.records)


class Report(Callback):
    """Reports the held-out bound after each validation, and stops training where the pruner says so.

    Under DDP rank 0 reports and tells the others what to do (Optuna's own callback lets every rank decide by itself).

    Args:
        trial: the trial; None on other ranks than 0.
        prunes: whether there is a pruner to ask.
    """

    def __init__(self, trial: Trial | None, prunes: bool) -> None:
        self.trial, self.prunes, self.pruned = trial, prunes, False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = False
        if self.trial is not None and BOUND in trainer.callback_metrics and not trainer.sanity_checking:
            bound, epoch = float(trainer.callback_metrics[BOUND]), trainer.current_epoch + 1
            stop = patiently(lambda: self._report(bound, epoch))
        self.pruned = trainer.strategy.broadcast(stop)
        trainer.should_stop = trainer.should_stop or self.pruned

    def _report(self, bound: float, epoch: int) -> bool:
        assert self.trial is not None
        if epoch not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(bound, epoch)  # not again by a trial that came back
        return self.prunes and self.trial.should_prune()


class Trainings:
    """Trials as trainings on this machine's share of devices.

    Args:
        sweep: the sweep.
        results: folder of the records.
        scratch: folder for unfinished trainings.
    """

    def __init__(self, sweep: Sweep, results: Path, scratch: Path) -> None:
        self.sweep, self.results, self.scratch = sweep, results / sweep.name, scratch / sweep.name

    def __call__(self, trial: Trial, point: Point, heart: Heart) -> Outcome:
        """Trains, records and measures every seed of a trial."""
        sweep, figures, records = self.sweep, [], []
        for index, seed in enumerate(sweep.seeds):
            part = (index / len(sweep.seeds), 1 / len(sweep.seeds))
            directory, data = self._record(trial, point, seed, heart, part)
            figures.append(held_out(sweep, directory, data))
            records.append(directory.name)
        names = {*sweep.objectives, *(constraint.figure for constraint in sweep.constraints)}
        found = {name: combined(sweep, name, [seed.get(name) for seed in figures]) for name in sorted(names)}
        return Outcome(
            [float(found[name]) for name in sweep.objectives],
            {str(constraint): constraint.violation(found[constraint.figure]) for constraint in sweep.constraints},
            found,
            records,
        )

    def _record(
        self, trial: Trial, point: Point, seed: int, heart: Heart, part: tuple[float, float]
    ) -> tuple[Path, ImageData]:
        """The folder of one seed's record, written now or found, and the data it is on."""
        sweep = self.sweep
        job = experiment(sweep.arguments(point, seed))
        data = _data(canonical(job.plain["data"]))
        number = record_id(job.identity(data), {**sweep.protocol, "version": VERSION})
        family = job.plain["model"]["class_path"].split(".")[-2]
        directory = self.results / f"{family}-s{seed}-{number}"
        if not (directory / "record.json").is_file():
            scratch = self._scratch(trial, seed)
            report = Report(trial, sweep.pruner["name"] != "none" and seed == sweep.seeds[0])

            def progress(fraction: float, metrics: Mapping[str, float]) -> None:
                heart.progress[trial.number] = (part[0] + part[1] * fraction, metrics.get(BOUND))

            checkpoint = scratch / "model.ckpt"
            if not checkpoint.is_file():
                reports = [report] if len(sweep.objectives) == 1 and seed == sweep.seeds[0] else []
                checkpoint = job.run(scratch, progress, reports)
            if report.pruned:
                shutil.rmtree(scratch)
                raise TrialPruned
            try:
                record_run(checkpoint, directory, sweep.protocol, sweep.name, variant(trial, point), progress=False)
            except UserError:  # a worker that was taken for dead may have written it meanwhile
                if not (directory / "record.json").is_file():
                    raise
            shutil.rmtree(scratch)
        return directory, data

    def _scratch(self, trial: Trial, seed: int) -> Path:
        """The trial's own folder; a trial that came back moves there what its predecessor left."""
        scratch = self.scratch / f"trial-{trial.number}-s{seed}"
        left = self.scratch / f"trial-{trial.user_attrs.get('retry_of')}-s{seed}"
        if left.is_dir() and not scratch.exists():
            left.rename(scratch)
        return scratch


@lru_cache(maxsize=2)
def _data(config: bytes) -> ImageData:
    return data_module(json.loads(config))


def variant(trial: Trial, point: Point) -> str:
    """A trial's row in the leaderboard: its number and what was chosen."""
    chosen = [
        f"{key.rpartition('.')[2]}={value:.4g}" if isinstance(value, float) else f"{key.rpartition('.')[2]}={value}"
        for key, value in point.items()
    ]
    return " ".join([f"t{first(trial):03d}", *chosen])


def main(argv: list[str] | None = None) -> int:
    """`python -m vaebench.sweep.worker FILE`, as engines start it; the storage's address is in the environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args(argv)
    return run_worker(arguments.file, lambda sweep: Trainings(sweep, arguments.results, arguments.work))


def run_worker(file: Path, make: Callable[[Sweep], Run]) -> int:
    """Works at the sweep of a file until it is done; returns the exit code that engines understand.

    Args:
        file: the sweep file.
        make: what runs a trial of the sweep.
    """
    interruption, parent = Interruption(), os.getppid()
    try:
        sweep = read_sweep(file)
        storage = connect(sweep, os.environ[ADDRESS])
        study = load(sweep, storage)
        work(sweep, storage, study, make(sweep), interruption, go_on=lambda: os.getppid() == parent)
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, StorageInternalError, SQLAlchemyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return AWAY
    return 0


if __name__ == "__main__":
    sys.exit(main())
