"""Detection of non-finite losses, with a delay, since reading a loss from a GPU stalls training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.errors import Diverged

EVERY = 16  # steps between checks
PATIENCE = 5  # consecutive losses; a single one may be an overflow whose step was skipped


class DivergenceWatch:
    """Collects every loss, and checks every `EVERY` steps whether `PATIENCE` consecutive ones are not finite."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, str, Tensor]] = []
        self._looked = -1
        self._first: dict[str, tuple[int, int]] = {}  # by group: first bad step, and consecutive bad losses

    def take(self, step: int, group: str, loss: Tensor) -> None:
        """Stores a group's loss, 0-dim, at a step, without reading it."""
        self._taken.append((step, group, loss.detach().clone()))  # a captured step overwrites it

    def look(self, everywhere: Callable[[Tensor], Tensor] | None = None) -> None:
        """Checks the collected losses once there are enough.

        Args:
            everywhere: the maximum of a tensor over all processes, so that all of them stop.

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
        """Counts a non-finite loss, or resets the count at a finite one.

        Raises:
            Diverged: too many consecutive losses are not finite.
        """
        first, count = self._first.get(group, (step, 0))
        self._first[group] = (first, count + 1) if wrong else (step + 1, 0)
        if wrong and count + 1 >= PATIENCE:
            raise Diverged(f"training diverged: the loss of the group '{group}' is not finite from step {first} on")


def require_finite(parameters: dict[str, Tensor], steps: int) -> None:
    """Checks by their sums that weights are finite at the end of a run.

    Raises:
        Diverged: some are not.
    """
    for name, value in parameters.items():
        if not math.isfinite(float(value.detach().double().abs().sum())):
            raise Diverged(f"training diverged: the weights '{name}' are not finite after {steps} steps")
