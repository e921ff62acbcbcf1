"""What a run keeps of its training, however it is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vaebench.core import Family


@dataclass
class Kept:
    """What a run keeps of its training.

    Attributes:
        curves: what was logged at every validation, by name: steps and values.
        best: the weights with the best held-out bound, its value and its step.
        seconds: time spent training and validating.
        images: trained on so far, each counted every time.
    """

    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=lambda: {"value": -math.inf})
    seconds: float = 0.0
    images: int = 0

    def add(self, model: Family, metrics: Mapping[str, float]) -> None:
        """Notes a validation, and copies the weights if 'val/selection' is the best yet.

        Without a bound the first weights are kept and any later ones.
        """
        for name, value in metrics.items():
            if name != "val/selection":
                curve = self.curves.setdefault(name, {"step": [], "value": []})
                curve["step"].append(model.steps)
                curve["value"].append(value)
        value = metrics.get("val/selection", -math.inf)
        if value > self.best["value"] or self.best["value"] == -math.inf:
            judged = {**model.state_dict(), **model.averages()}  # what the bound was measured with
            weights = {name: tensor.detach().cpu().clone() for name, tensor in judged.items()}
            self.best = {"value": value, "steps": model.steps, "weights": weights}
