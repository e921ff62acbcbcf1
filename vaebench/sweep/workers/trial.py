"""One trial: trainings, ordinary records, and metrics of the validation images.

A record's folder is named after everything that determines its content, so that a retry finds the records of its
predecessor.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from optuna import Trial, TrialPruned

from vaebench.configuration.parts import name_of
from vaebench.curves import BOUND
from vaebench.data.base import ImageData
from vaebench.evaluation import read_protocol
from vaebench.loggers import Log, Logbook, of_training
from vaebench.records import CHECKPOINT, canonical
from vaebench.records.validation import write_validation
from vaebench.running.recording import record_id
from vaebench.running.run import Run
from vaebench.sweep.spec.space import Point
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import Outcome, first
from vaebench.sweep.workers.distributed import train_distributed
from vaebench.sweep.workers.held_out import combined, held_out
from vaebench.sweep.workers.pruning import PruningCallback
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.models import data_module
from vaebench.training.solo import train


class TrialRunner:
    """Runs trials as trainings on this worker's devices.

    Args:
        sweep: the sweep.
        results: folder of the records.
        scratch: folder for unfinished trainings.
        engine: the engine that trains them, unless it is Lightning; see `Experiment.engine`.
        logbook: of the trainings.
    """

    def __init__(
        self,
        sweep: Sweep,
        results: Path,
        scratch: Path,
        engine: Mapping[str, Any] = MappingProxyType({}),
        logbook: Logbook | None = None,
    ) -> None:
        self.sweep, self.results, self.scratch = sweep, results / sweep.name, scratch / sweep.name
        self.engine, self.logbook = dict(engine), logbook or Logbook()
        self.protocol = read_protocol(**sweep.protocol)

    def __call__(self, trial: Trial, point: Point, heart: Heartbeat) -> Outcome:
        """Trains, records and measures every seed of a trial."""
        sweep, figures, records = self.sweep, [], []
        for index, seed in enumerate(sweep.seeds):
            job, run = self.plan(trial, point, seed)
            share = (index / len(sweep.seeds), 1 / len(sweep.seeds))
            record = run.obtain(partial(self._train, trial, point, job, run, heart, share))
            figures.append(held_out(sweep, record, _data(job)))
            write_validation(record, sweep.objectives, figures[-1], sweep.combine)
            records.append(run.directory.name)
        names = {*sweep.objectives, *(constraint.figure for constraint in sweep.constraints)}
        values = {name: combined(sweep, name, [seed.get(name) for seed in figures]) for name in sorted(names)}
        return Outcome(
            [float(values[name]) for name in sweep.objectives],
            {str(constraint): constraint.violation(values[constraint.figure]) for constraint in sweep.constraints},
            values,
            records,
        )

    def plan(self, trial: Trial, point: Point, seed: int) -> tuple[Experiment, Run]:
        """The configuration of one seed of a trial, and its run."""
        job = experiment(self.sweep.arguments(point, seed))
        job.engine = self.engine
        data = job.known = _data(job)
        identity = job.identity(data)
        number = record_id(identity, self.protocol)
        directory = self.results / f"{name_of(job.plain['model']['class_path'])}-s{seed}-{number}"
        row = variant(trial, point)
        about = of_training(job, data, "sweep", number, self.sweep.name, row)
        return job, Run(
            identity, self.protocol, directory, self._scratch(trial, seed), self.sweep.name, row, first(trial),
            progress=False, open_log=lambda: self.logbook.open(about),
        )  # fmt: skip

    def _train(
        self,
        trial: Trial,
        point: Point,
        job: Experiment,
        run: Run,
        heart: Heartbeat,
        share: tuple[float, float],
        log: Log,
    ) -> Path:
        """Trains one seed, here or as a `torchrun` child.

        Args:
            trial, point: the trial and its settings.
            job, run: of the seed.
            heart: reports the trial's progress.
            share: fraction of the trial before this seed, and of this seed.
            log: of the seed.

        Raises:
            TrialPruned: the pruner stopped it.
        """
        sweep = self.sweep
        reported = len(sweep.objectives) == 1 and job.seed == sweep.seeds[0]  # Optuna reports single objectives only
        if (devices := sweep.engine.get("devices", 1)) > 1:
            args = sweep.arguments(point, job.seed)
            pruned = train_distributed(sweep, trial if reported else None, args, run.scratch, devices)
        else:
            pruning = PruningCallback(trial, sweep.pruner["name"] != "none")

            def progress(fraction: float, metrics: Mapping[str, float]) -> None:
                heart.report(trial, share[0] + share[1] * fraction, metrics.get(BOUND))

            train(job, run.scratch, progress, [*([pruning] if reported else []), *log.callbacks])
            pruned = pruning.pruned
        if pruned:
            shutil.rmtree(run.scratch)
            log.close("pruned")
            raise TrialPruned
        return run.scratch / CHECKPOINT

    def _scratch(self, trial: Trial, seed: int) -> Path:
        """The trial's folder; a retry moves its predecessor's files there."""
        scratch = self.scratch / f"trial-{trial.number}-s{seed}"
        left = self.scratch / f"trial-{trial.user_attrs.get('retry_of')}-s{seed}"
        if left.is_dir() and not scratch.exists():
            left.rename(scratch)
        return scratch


def _data(job: Experiment) -> ImageData:
    """The data of a trial, shared with other trials."""
    return _module(canonical(job.plain["data"]))


@lru_cache(maxsize=2)
def _module(config: bytes) -> ImageData:
    return data_module(json.loads(config))


def variant(trial: Trial, point: Point) -> str:
    """A trial's name on the leaderboard: its number and settings."""
    chosen = [
        f"{key.rpartition('.')[2]}={value:.4g}" if isinstance(value, float) else f"{key.rpartition('.')[2]}={value}"
        for key, value in point.items()
    ]
    return " ".join([f"t{first(trial):03d}", *chosen])
