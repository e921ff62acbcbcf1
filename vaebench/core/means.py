"""Means of the logs of steps over the images of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric


class ImageMean(MeanMetric):
    """The mean over images of figures that are means over batches, in float32 or wider.

    torchmetrics' own looks at every value for NaN, which waits for a GPU, and leaves NaN out of the mean; without that
    look (`nan_strategy="disable"`) it ignores the weights.

    Args:
        kwargs: of `torchmetrics.Metric`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nan_strategy="disable", **kwargs)

    def update(self, value: Tensor, images: int) -> None:  # type: ignore[override]
        """Adds a mean over so many images, of any shape, on the metric's device."""
        value = value.detach()
        total = value.to(torch.promote_types(value.dtype, torch.float32)) * images
        self.mean_value, self.weight = self.mean_value + total, self.weight + images


class Means:
    """Means of logs over images, summed on the device so that no step waits for the host.

    One sum holds all of a step's logs: three metrics would take 0.1 ms more a step.

    Attributes:
        images: so far.
    """

    def __init__(self) -> None:
        self.images = 0
        self._names: tuple[str, ...] = ()
        self._total: Tensor | None = None  # (names, …)

    def add(self, logs: Mapping[str, Tensor], images: int) -> None:
        """Adds a step's logs, all of one shape, each a mean over `images` images."""
        if not logs:
            return
        self._names, row = tuple(logs), images * torch.stack([value.detach() for value in logs.values()])
        row = row.to(torch.promote_types(row.dtype, torch.float32))
        self._total = row if self._total is None else self._total + row
        self.images += images

    def take(self) -> dict[str, Tensor]:
        """The means by name, in the shape of the logs; resets them for the next epoch."""
        if self._total is None:
            return {}
        means = dict(zip(self._names, self._total / self.images, strict=True))
        self._total, self.images = None, 0
        return means
