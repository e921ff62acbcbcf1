"""How training tells a trial's bound, and hears that it may stop."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer
from optuna import Trial

from vaebench.curves import BOUND
from vaebench.sweep.storage.queue import patiently


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
