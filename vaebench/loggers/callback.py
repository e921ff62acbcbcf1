"""Logging of a Lightning training."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer

from vaebench.loggers import Log
from vaebench.training.keeper import Keeper


class LoggingCallback(Callback):
    """Logs a training's curves: at the start those of an interrupted run, then after every epoch.

    Args:
        log: the log.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer)

    def _tell(self, trainer: Trainer) -> None:
        for keeper in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(keeper, Keeper):
                self._log.history(keeper.history.curves)
