"""A trial's bound is reported while it trains, and the pruner may stop it."""

from __future__ import annotations

from typing import cast

from lightning import Callback, LightningModule, Trainer
from optuna import Trial

from vaebench.core import Family
from vaebench.curves import BOUND
from vaebench.sweep.storage.queue import patiently


class PruningCallback(Callback):
    """Reports the held-out bound after each validation, and stops training where the pruner says so.

    Bounds are held back until the objective has settled: a warm-up flatters them, for this trial and for those that are
    compared with it.

    Under DDP rank 0 decides for all ranks (in Optuna's own callback each decides by itself).

    Args:
        trial: the trial; None on other ranks than 0.
        prunes: whether the sweep has a pruner.

    Attributes:
        pruned: whether it has stopped the training.
    """

    def __init__(self, trial: Trial | None, prunes: bool) -> None:
        self.trial, self.prunes, self.pruned = trial, prunes, False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stop = False
        if self.trial is not None and BOUND in trainer.callback_metrics and not trainer.sanity_checking:
            bound, epoch = float(trainer.callback_metrics[BOUND]), trainer.current_epoch + 1
            stop = patiently(lambda: self.report(cast(Family, pl_module), bound, epoch))
        self.pruned = trainer.strategy.broadcast(stop)
        trainer.should_stop = trainer.should_stop or self.pruned

    def report(self, model: Family, bound: float, epoch: int) -> bool:
        """Reports the bound of an epoch to the study, once the model's objective has settled.

        Args:
            model: what is trained.
            bound: nats per image.
            epoch: from 1.

        Returns:
            Whether the pruner stops the trial.
        """
        assert self.trial is not None
        if model.steps < model.settled():
            return False
        if epoch not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(bound, epoch)  # not again by a trial that came back
        return self.prunes and self.trial.should_prune()
