"""Logging of a Lightning training."""

from __future__ import annotations

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from vaebench.loggers import Log
from vaebench.training.keeper import Keeper

EVERY = 50  # steps, where the trainer's option turns its own loggers off
PATIENCE = 10.0  # seconds within an epoch after which single steps are told: reading them waits for the device


class LoggingCallback(Callback):
    """Logs a training's curves: at the start those of an interrupted run, then after every epoch.

    So it does with the learning rate, the speed and the gradients' length of every `log_every_n_steps`-th step, which
    it tells after each epoch, and within one that is long.

    Args:
        log: the log.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.gauge_every(trainer.log_every_n_steps or EVERY)
        self._told = time.perf_counter()
        self._tell(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.gauge.restart()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if time.perf_counter() - self._told > PATIENCE:
            self._steps(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps(pl_module)
        self._tell(trainer)

    def _steps(self, model: Any) -> None:
        self._log.steps(model.gauge.read())
        self._told = time.perf_counter()

    def _tell(self, trainer: Trainer) -> None:
        for keeper in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(keeper, Keeper):
                self._log.history(keeper.history.curves)
