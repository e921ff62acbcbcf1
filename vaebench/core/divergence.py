"""Losses that are no numbers: seen a little later than they come, for to read one from a GPU makes training wait."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.errors import Diverged

EVERY = 16  # steps between two looks
PATIENCE = 5  # losses in a row: one alone may be an overflow whose step was left out


class DivergenceWatch:
    """Takes every loss, and looks every `EVERY` steps whether `PATIENCE` in a row are not finite."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, str, Tensor]] = []
        self._looked = -1
        self._first: dict[str, tuple[int, int]] = {}  # of each group: the step it began, and losses in a row since

    def take(self, step: int, group: str, loss: Tensor) -> None:
        """Notes a group's loss, 0-dim, at a step; reads nothing."""
        self._taken.append((step, group, loss.detach()))

    def look(self, everywhere: Callable[[Tensor], Tensor] | None = None) -> None:
        """Looks at what was taken, where enough was.

        Args:
            everywhere: the largest of a tensor over all processes, so that all of them stop.

        Raises:
            Diverged: a group's loss is not finite any more.
        """
        if not self._taken or self._taken[-1][0] - self._looked < EVERY:
            return
        self._looked = self._taken[-1][0]
        bad = ~torch.stack([loss.float() for _, _, loss in self._taken]).isfinite()
        if everywhere is not None:
            bad = everywhere(bad.float()) > 0
        for (step, group, _), wrong in zip(self._taken, bad.tolist(), strict=True):
            self.see(step, group, wrong)
        self._taken.clear()

    def see(self, step: int, group: str, wrong: bool) -> None:
        """Counts a loss that is not finite, or begins anew at one that is.

        Raises:
            Diverged: too many in a row are not.
        """
        first, count = self._first.get(group, (step, 0))
        self._first[group] = (first, count + 1) if wrong else (step + 1, 0)
        if wrong and count + 1 >= PATIENCE:
            raise Diverged(f"training diverged: the loss of the group '{group}' is not finite from step {first} on")


def require_finite(parameters: dict[str, Tensor], steps: int) -> None:
    """Refuses weights that are not finite at the end of a run, by their sum alone.

    Raises:
        Diverged: some are not.
    """
    for name, value in parameters.items():
        if not math.isfinite(float(value.detach().double().abs().sum())):
            raise Diverged(f"training diverged: the weights '{name}' are not finite after {steps} steps")
