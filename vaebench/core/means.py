"""What steps log, as means over the images of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class Means:
    """Means over images of what every step logs, summed where the steps run: no step waits for a host."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._total: Tensor | None = None  # (1 + names, …): images, and the sums over them

    def add(self, logs: Mapping[str, Tensor], images: int) -> None:
        """Adds a step's logs, all of one shape, each a mean over so many images."""
        if not logs:
            return
        self._names, values = tuple(logs), [value.detach() for value in logs.values()]
        row = images * torch.stack([torch.ones_like(values[0]), *values])
        row = row.to(torch.promote_types(row.dtype, torch.float32))
        self._total = row if self._total is None else self._total + row

    def take(self, reduce: Callable[[Tensor], Tensor] = lambda total: total) -> dict[str, Tensor]:
        """The means by name, in the shape of the logs; the next epoch begins.

        Args:
            reduce: the sum over all processes.
        """
        if self._total is None:
            return {}
        images, *sums = reduce(self._total)
        self._total = None
        return {name: value / images for name, value in zip(self._names, sums, strict=True)}
