"""Means of the logs of steps over the images of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class Means:
    """Means of logs over images, summed on the device so that no step waits for the host."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._total: Tensor | None = None  # (1 + names, …): images, and the sums over them

    def add(self, logs: Mapping[str, Tensor], images: int) -> None:
        """Adds a step's logs, all of one shape, each a mean over `images` images."""
        if not logs:
            return
        self._names, values = tuple(logs), [value.detach() for value in logs.values()]
        row = images * torch.stack([torch.ones_like(values[0]), *values])
        row = row.to(torch.promote_types(row.dtype, torch.float32))
        self._total = row if self._total is None else self._total + row

    def take(self, reduce: Callable[[Tensor], Tensor] = lambda total: total) -> dict[str, Tensor]:
        """The means by name, in the shape of the logs; resets them for the next epoch.

        Args:
            reduce: sums a tensor over all processes.
        """
        if self._total is None:
            return {}
        images, *sums = reduce(self._total)
        self._total = None
        return {name: value / images for name, value in zip(self._names, sums, strict=True)}
