"""Reports of a trial's bound during training, on which the pruner may stop it."""

from __future__ import annotations

from typing import cast

from lightning import Callback, LightningModule, Trainer
from optuna import Trial

from vaebench.core import Family
from vaebench.curves import BOUND
from vaebench.sweep.storage.queue import patiently


class PruningCallback(Callback):
    """Reports the held-out bound after each validation, and stops training when the pruner decides so.

    Bounds are reported only once the objective has settled, since a warm-up inflates them, for this trial and for those
    it is compared with.

    Under DDP rank 0 decides for all ranks, unlike in Optuna's own callback.

    Args:
        trial: the trial; None on other ranks than 0.
        prunes: whether the sweep has a pruner.

    Attributes:
        pruned: whether the pruner has stopped the training.
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
            model: in training.
            bound: nats per image.
            epoch: from 1.

        Returns:
            Whether the pruner stops the trial.
        """
        assert self.trial is not None
        if model.steps < model.settled():
            return False
        if epoch not in self.trial.storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(bound, epoch)  # not again in a retry
        return self.prunes and self.trial.should_prune()
