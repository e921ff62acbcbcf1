"""Metrics of trials, on validation images only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vaebench import evaluation
from vaebench.curves import BOUND, LOG_X, VAL
from vaebench.data.base import ImageData
from vaebench.errors import UserError
from vaebench.evaluation.subject import Generated
from vaebench.records import CHECKPOINT, RunRecord
from vaebench.records.validation import COMBINE
from vaebench.running.processes import find_device
from vaebench.sweep.spec.spec import Sweep
from vaebench.training.models import load

CURVES = (BOUND, LOG_X)
COLLAPSE = "val/collapse"  # the verdict, which has no number
VERDICTS = ("none", "partial", "full", "unknown")  # of `collapse`


class HeldOut:
    """A data module with its validation images as the 'test' split.

    Args:
        data: the module.
    """

    def __init__(self, data: ImageData) -> None:
        self.data, self.spec = data, data.spec

    def images(self, split: str) -> Tensor:
        """Images, (n, c, h, w); those of validation for 'test'."""
        return self.data.images(_validation(split))

    def some(self, split: str, index: Tensor) -> Tensor:
        """Some of them; see `ImageData.some`."""
        return self.data.some(_validation(split), index)

    def resident(self, count: int) -> bool:
        """Whether so many may be in memory at once; see `ImageData.resident`."""
        return self.data.resident(count)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images of each split."""
        return {split: self.data.sizes[_validation(split)] for split in ("train", "test")}

    def labels(self, split: str) -> Tensor | None:
        """Labels, (n,), or None where there are none."""
        return self.data.labels(_validation(split))

    def factors(self, split: str) -> Tensor | None:
        """Factors of variation, (n, factors), or None where there are none."""
        return self.data.factors(_validation(split)) if isinstance(self.data, Generated) else None


def _validation(split: str) -> str:
    return "val" if split == "test" else split


def held_out(sweep: Sweep, record: RunRecord, data: ImageData) -> dict[str, Any]:
    """All metrics of a record's checkpoint on the validation images that the sweep may use.

    The bound is that of the measured weights, from validation during training; all others come from the sweep's
    protocol.

    Raises:
        UserError: the record's checkpoint is needed and gone.
    """
    values: dict[str, Any] = {name: value for name in CURVES if (value := record.held_out(name)) is not None}
    if not values:
        values = dict.fromkeys(CURVES, f"what is measured ({record.selection}) was not validated at that step")
    if not sweep.measured:
        return values
    model = load(Path(record.path or "", CHECKPOINT)).to(find_device(None))
    report = evaluation.evaluate(model, HeldOut(data), evaluation.read_protocol(**sweep.protocol), progress=False)
    for name, metric in report.metrics.items():
        values.setdefault(f"{VAL}{name}", metric.value if metric.value is not None else metric.unavailable)
    return values | {COLLAPSE: report.collapse["verdict"]}


def combined(sweep: Sweep, name: str, values: Sequence[Any]) -> float | str:
    """One metric over all seeds: the mean or median of numbers, the worst of verdicts.

    Raises:
        UserError: some seed lacks the metric.
    """
    if name == COLLAPSE:
        return max(values, key=VERDICTS.index)
    for value in values:
        if not isinstance(value, int | float):
            raise UserError(f"{name} is unavailable: {value or 'this family does not have it'}; choose another figure")
    return float(COMBINE[sweep.combine](values))
