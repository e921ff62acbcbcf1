"""One trial: trainings, ordinary records, and the figures of the validation images.

A record's folder is named after all that determines its content, so that a trial that comes back finds the record its
predecessor wrote, and nothing is written twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from optuna import Trial, TrialPruned

from vaebench.api import data_module, read_checkpoint
from vaebench.configuration.parts import name_of
from vaebench.curves import BOUND
from vaebench.data.base import ImageData
from vaebench.errors import UserError
from vaebench.evaluation import read_protocol
from vaebench.loggers import Log, Logbook, of_training
from vaebench.records import canonical
from vaebench.running.recording import record_id, record_run
from vaebench.sweep.spec.space import Point
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.queue import Heart, Outcome, first
from vaebench.sweep.workers.distributed import train_distributed
from vaebench.sweep.workers.held_out import combined, held_out
from vaebench.sweep.workers.reporting import Report
from vaebench.training.experiment import experiment

if TYPE_CHECKING:
    from lightning import Callback

    from vaebench.training.experiment import Experiment


class Trainings:
    """Trials as trainings on this machine's share of devices.

    Args:
        sweep: the sweep.
        results: folder of the records.
        scratch: folder for unfinished trainings.
        engine: what trains them, where it is not Lightning; see `Experiment.engine`.
        logbook: what follows them.
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
        job, data, directory = self.place(point, seed)
        scratch = self._scratch(trial, seed)
        if not (directory / "record.json").is_file():
            checkpoint = scratch / "model.ckpt"
            with self.log(trial, point, job, data, directory) as log:
                args = sweep.arguments(point, seed)
                if not trained(scratch, job, data) and self._train(
                    args, trial, seed, scratch, heart, part, log.callbacks
                ):
                    shutil.rmtree(scratch)
                    log.close("pruned")
                    raise TrialPruned
                row, number = variant(trial, point), first(trial)
                try:
                    where = (checkpoint, directory, sweep.protocol, sweep.name, row)
                    log.record(record_run(*where, progress=False, trial=number))
                except (UserError, OSError):  # a worker that was taken for dead may have written it meanwhile
                    if not (directory / "record.json").is_file():
                        raise
        shutil.rmtree(scratch, ignore_errors=True)
        return directory, data

    def log(self, trial: Trial, point: Point, job: Experiment, data: ImageData, directory: Path) -> Log:
        """The log of one seed's run, which has its record in `directory`."""
        number = directory.name.rpartition("-")[2]
        return self.logbook.open(of_training(job, data, "sweep", number, self.sweep.name, variant(trial, point)))

    def _train(
        self,
        args: list[str],
        trial: Trial,
        seed: int,
        scratch: Path,
        heart: Heart,
        part: tuple[float, float],
        callbacks: list[Callback],
    ) -> bool:
        """Trains one seed in `scratch`, here or as a `torchrun` child; True where the pruner stopped it."""
        sweep = self.sweep
        told = len(sweep.objectives) == 1 and seed == sweep.seeds[0]  # several objectives cannot be reported
        if (devices := sweep.engine.get("devices", 1)) > 1:
            return train_distributed(sweep, trial if told else None, args, scratch, devices)

        def progress(fraction: float, metrics: Mapping[str, float]) -> None:
            heart.report(trial, part[0] + part[1] * fraction, metrics.get(BOUND))

        report = Report(trial, sweep.pruner["name"] != "none")
        experiment(args).run(scratch, progress, [*([report] if told else []), *callbacks])
        return report.pruned

    def place(self, point: Point, seed: int) -> tuple[Experiment, ImageData, Path]:
        """One seed's run, its data, and the folder of its record."""
        job = experiment(self.sweep.arguments(point, seed))
        job.engine = self.engine
        data = _data(canonical(job.plain["data"]))
        number = record_id(job.identity(data), read_protocol(**self.sweep.protocol))
        family = name_of(job.plain["model"]["class_path"])
        return job, data, self.results / f"{family}-s{seed}-{number}"

    def _scratch(self, trial: Trial, seed: int) -> Path:
        """The trial's own folder; a trial that came back moves there what its predecessor left."""
        scratch = self.scratch / f"trial-{trial.number}-s{seed}"
        left = self.scratch / f"trial-{trial.user_attrs.get('retry_of')}-s{seed}"
        if left.is_dir() and not scratch.exists():
            left.rename(scratch)
        return scratch


def trained(scratch: Path, job: Experiment, data: ImageData) -> bool:
    """Whether a folder holds the checkpoint of this very run; the folders of trials outlive a storage."""
    checkpoint = scratch / "model.ckpt"
    if not checkpoint.is_file():
        return False
    try:
        return read_checkpoint(checkpoint)["vaebench"]["run"] == job.identity(data)
    except (UserError, KeyError):
        return False


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
