"""Early stopping by Lightning's rule, in the right direction, once the objective has settled."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping

from vaebench.core import Family
from vaebench.curves import BOUND, LOG_X, OBJECTIVE
from vaebench.errors import UserError, unknown

HIGHER = (BOUND, LOG_X, OBJECTIVE)  # better the higher
_SIGN = {"max": 1, "min": -1}  # of min_delta, by which Lightning has multiplied it


class Stopping:
    """The early stopping of one run; see `EarlyStopping` for the rule.

    Monitored metrics count from the time at which the objective has settled: a bound that falls while a schedule rises
    does not show that the model has stopped improving.

    Args:
        callbacks: of the trainer's configuration.

    Attributes:
        others: the other callbacks.

    Raises:
        UserError: the direction of a monitored metric is wrong, or a number of the callback is negative.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.stoppers = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
        self.others = [callback for callback in callbacks if not isinstance(callback, EarlyStopping)]
        for stopper in self.stoppers:
            for name, value in (("patience", stopper.patience), ("min_delta", stopper.min_delta * _SIGN[stopper.mode])):
                if value < 0:
                    raise UserError(f"early stopping has {name} {value}: expected at least 0; raise it")
            if stopper.monitor in HIGHER and stopper.mode != "max":
                raise UserError(
                    f"early stopping monitors {stopper.monitor} with mode {stopper.mode}: expected max, since it is "
                    "better the higher it is; set the callback's mode to max"
                )

    def stops(self, model: Family, metrics: Mapping[str, float], kind: str) -> dict[str, float]:
        """The monitored metrics that stop training, by name; empty where it continues.

        Warns of one that is not finite, at which Lightning stops silently.

        Args:
            model: in training.
            metrics: all current metrics of one kind.
            kind: prefix of their names, 'train/' or 'val/'.

        Raises:
            UserError: a monitored metric is not among them.
        """
        values = {}
        for stopper in self.stoppers:
            name = str(stopper.monitor)
            if name not in metrics and (name.startswith(kind) or "/" not in name):
                raise unknown("monitor", name, [*metrics], "Early stopping monitors it.")
            if name not in metrics or model.steps < model.settled():
                continue
            if stopper._evaluate_stopping_criteria(torch.tensor(metrics[name]))[0]:
                values[name] = metrics[name]
        for sentence in not_finite(values, model.steps):
            warnings.warn(sentence, stacklevel=2)
        return values

    def state_dict(self) -> list[dict[str, object]]:
        """The state for resuming after an interruption."""
        return [stopper.state_dict() for stopper in self.stoppers]

    def load_state_dict(self, state: Sequence[dict[str, object]]) -> None:
        """Resumes from a saved state."""
        for stopper, saved in zip(self.stoppers, state, strict=True):
            stopper.load_state_dict(saved)


def not_finite(figures: Mapping[str, float], steps: int) -> list[str]:
    """A sentence for each non-finite metric that stopped training after `steps` steps."""
    return [
        f"early stopping ended training at step {steps}, where {name} was {value}: expected a finite number; see what "
        "the model makes of the validation images, or set the callback's check_finite to false to train on"
        for name, value in figures.items()
        if not math.isfinite(value)
    ]
