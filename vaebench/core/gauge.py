"""How fast a training goes and how long its gradients are, at every so many steps and read later than they come."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Gauge:
    """Takes the learning rate, the length of the gradient and the speed at every `every`-th step.

    Lengths stay on their device until `read`, so that no step waits for one.

    Args:
        every: steps from one point to the next.
    """

    def __init__(self, every: int) -> None:
        self.every, self.images = every, 0
        self._points: list[tuple[int, dict[str, float], dict[str, Tensor]]] = []
        self._last = -1
        self.restart()

    def restart(self) -> None:
        """Begins to time anew, as after a validation."""
        self.images, self._since = 0, time.perf_counter()

    def due(self, step: int) -> bool:
        """Whether a step has a point."""
        return step == self._last or step - self._last >= self.every

    def take(self, step: int, group: str, lr: float, gradients: Sequence[Tensor]) -> None:
        """Takes what a step makes of one parameter group.

        Args:
            step: its number, for which `due` holds.
            group: name of the group, '' where it is the only one.
            lr: its learning rate.
            gradients: its gradients, before they are clipped.
        """
        if step != self._last:
            self._last = step
            seconds = time.perf_counter() - self._since
            self._points.append((step + 1, {"step/images_per_second": self.images / max(seconds, 1e-9)}, {}))
            self.restart()
        _, values, norms = self._points[-1]
        end = f"_{group}" if group else ""
        values[f"step/lr{end}"] = lr
        norms[f"step/gradient_norm{end}"] = nn.utils.get_total_norm(gradients).detach()

    def read(self) -> list[tuple[int, dict[str, float]]]:
        """The points that were not read before: batches learnt from, and figures by name."""
        points, self._points = self._points, []
        if not points:
            return []
        every = torch.stack([norm.float() for _, _, norms in points for norm in norms.values()]).tolist()
        lengths = iter(every)
        return [(step, {**values, **{name: next(lengths) for name in norms}}) for step, values, norms in points]
