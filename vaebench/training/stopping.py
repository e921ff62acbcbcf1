"""Early stopping: Lightning's rule, in the right direction, once the objective has settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping

from vaebench.core import Family
from vaebench.curves import BOUND, LOG_X, OBJECTIVE
from vaebench.errors import UserError, unknown

HIGHER = (BOUND, LOG_X, OBJECTIVE)  # better the higher


class Stopping:
    """The early stopping of one run; see `EarlyStopping` for the rule.

    What is monitored counts from the first time on at which the objective has settled: a bound that falls while a
    schedule raises its pressure is no sign of a model that has ceased to improve.

    Args:
        callbacks: of the trainer's configuration.

    Attributes:
        others: the callbacks that have nothing to do with it.

    Raises:
        UserError: a figure that is better the higher it is would be monitored for its lowest value.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.stoppers = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
        self.others = [callback for callback in callbacks if not isinstance(callback, EarlyStopping)]
        for stopper in self.stoppers:
            if stopper.monitor in HIGHER and stopper.mode != "max":
                raise UserError(
                    f"early stopping monitors {stopper.monitor} with mode {stopper.mode}: expected max, since it is "
                    "better the higher it is; set the callback's mode to max"
                )

    def stops(self, model: Family, metrics: Mapping[str, float], kind: str) -> bool:
        """Whether training stops, after the metrics of one kind were measured.

        Args:
            model: in training.
            metrics: all of that kind, measured now.
            kind: 'train/' or 'val/', with which their names begin.

        Raises:
            UserError: one that is monitored is not among them.
        """
        stop = False
        for stopper in self.stoppers:
            name = str(stopper.monitor)
            if name not in metrics and (name.startswith(kind) or "/" not in name):
                raise unknown("monitor", name, [*metrics], "Early stopping monitors it.")
            if name in metrics and model.steps >= model.settled():
                stop |= stopper._evaluate_stopping_criteria(torch.tensor(metrics[name]))[0]
        return stop

    def state_dict(self) -> list[dict[str, object]]:
        """The state with which it resumes after an interruption."""
        return [stopper.state_dict() for stopper in self.stoppers]

    def load_state_dict(self, state: Sequence[dict[str, object]]) -> None:
        """Resumes from a saved state."""
        for stopper, saved in zip(self.stoppers, state, strict=True):
            stopper.load_state_dict(saved)
