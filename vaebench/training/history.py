"""The history of a training: curves, cost, and the best weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vaebench.core import Family
from vaebench.curves import OBJECTIVE
from vaebench.records.selection import Selection
from vaebench.training.machine import load
from vaebench.training.stopping import not_finite


@dataclass
class TrainingHistory:
    """Curves, cost and best weights of one training, by Lightning or in a population.

    Attributes:
        curves: steps and values of metrics, by name.
        best: the weights with the best held-out objective since it settled, with its value and step; None unless the
            model keeps the best.
        began: the first step of that selection.
        seconds: time spent training and validating.
        images: training images so far, with repetitions.
        load: of the machine at the start, at its highest and at the end, as far as known; see `training.machine`.
        stopped: monitored metrics at early stopping, by name; empty without it.
    """

    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=lambda: {"value": -math.inf})
    began: int | None = None
    seconds: float = 0.0
    images: int = 0
    load: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)

    def note(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of a step."""
        for name, value in metrics.items():
            curve = self.curves.setdefault(name, {"step": [], "value": []})
            curve["step"].append(step)
            curve["value"].append(value)

    def note_load(self) -> None:
        """Notes how busy the machine is now."""
        if (now := load()) is not None:
            known = {"load_start": now, "load_highest": now, **self.load}
            self.load = {**known, "load_highest": max(known["load_highest"], now), "load_end": now}

    def validated(self, model: Family, metrics: Mapping[str, float]) -> None:
        """Adds a validation, and copies the weights if the model keeps the best and they are; NaN never is."""
        self.note(model.steps, metrics)
        if model.keep != "best" or model.steps < model.settled():
            return
        self.began = model.steps if self.began is None else self.began
        if math.isfinite(value := metrics[OBJECTIVE]) and value > self.best["value"]:
            self.best = {"value": value, "steps": model.steps, "weights": weights(model)}

    def latest(self) -> dict[str, float]:
        """The latest value of every curve."""
        return {name: curve["value"][-1] for name, curve in self.curves.items()}

    def chosen(self, model: Family) -> tuple[Selection, dict[str, Tensor], list[str]]:
        """The selection of weights, the weights, and warnings for readers of their metrics.

        Args:
            model: at the end of training.
        """
        steps, settled, warnings = model.steps, model.settled(), not_finite(self.stopped, model.steps)
        if steps < settled < math.inf:
            warnings.append(
                f"training ended at step {steps}, before its schedules do at step {settled:g}: the objective had not "
                "come to its final settings"
            )
        if "weights" in self.best:
            return Selection("best", self.best["steps"], steps, self.began), self.best["weights"], warnings
        if model.keep == "best":
            reason = (
                "the objective was never at its final settings when it was validated"
                if self.began is None
                else ("the held-out objective was never a finite number")
            )
            warnings.append(f"the last weights are measured, where model.keep is best: {reason}")
        return Selection("last", steps, steps), weights(model), warnings


def weights(model: Family) -> dict[str, Tensor]:
    """A copy of a model's state for evaluation, with averaged weights where the family has them."""
    judged = {**model.state_dict(), **model.averages()}
    return {name: tensor.detach().cpu().clone() for name, tensor in judged.items()}
