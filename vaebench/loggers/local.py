"""Local logs by Lightning's loggers for TensorBoard and CSV."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import UserError
from vaebench.loggers.about import RunDescription
from vaebench.loggers.figures import finite, logged_figures
from vaebench.records import RunRecord


def opener(choice: str, folder: Path) -> Callable[[RunDescription], Files]:
    """Opens logs in `FOLDER/csv/GROUP/NAME-ID` or `FOLDER/tensorboard/GROUP/NAME-ID`.

    Raises:
        UserError: TensorBoard's writer is not installed.
    """
    if choice == "tensorboard" and not (find_spec("tensorboardX") or find_spec("tensorboard")):
        raise UserError("the logger 'tensorboard' needs a writer of its files; install vaebench[tensorboard]")
    return partial(Files, choice, folder)


class Files:
    """One run's log in its own folder, which replaces an older one.

    Args:
        kind: 'tensorboard' or 'csv'.
        folder: of all logs.
        about: the run.
    """

    def __init__(self, kind: str, folder: Path, about: RunDescription) -> None:
        from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

        group, version = about.group.replace("/", "-"), f"{about.name}-{about.id[:8]}"
        make: Any = partial(TensorBoardLogger, default_hp_metric=False) if kind == "tensorboard" else CSVLogger
        self.draws = kind == "tensorboard"
        self.logger = make(save_dir=folder / kind, name=group, version=version)
        shutil.rmtree(self.logger.log_dir, ignore_errors=True)
        self.logger.log_hyperparams(about.config)
        self._step = 0

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """One row, or one point of every curve."""
        self._step = step
        self.logger.log_metrics(finite(values), step)
        self.logger.save()

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Images of that step where the logger takes them."""
        if self.draws:
            for name, pixels in pictures.items():
                self.logger.experiment.add_image(f"training/{name}", pixels, step, dataformats="HWC")

    def checkpoint(self, path: Path) -> None:
        """Does nothing: the checkpoint is local."""

    def record(self, record: RunRecord) -> None:
        """All scalars as the last point, and pictures where the logger supports them."""
        self.point(self._step, {k: v for k, v in logged_figures(record).items() if isinstance(v, int | float)})
        if self.draws:
            for name in record.pictures():
                self.logger.experiment.add_image(f"pictures/{name}", record.pixels(name), self._step, dataformats="HWC")

    def close(self, outcome: str) -> None:
        """Flushes the log."""
        self.logger.save()
        self.logger.finalize("success" if outcome in ("finished", "pruned") else "aborted")
