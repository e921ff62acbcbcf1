"""Adam for members that are stacked, each with a learning rate and a count of steps of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch.optim.Adam's


class Adam:
    """`torch.optim.Adam` for n members at once; members that do not learn keep their moments and their count.

    On a CPU each member takes torch's fused kernel over its own rows, which passes over the memory once; on a GPU,
    where launches cost more than passes, all members take a few operations together.

    Args:
        parameters: of one group, (n, *shape) each; updated in place.
        means, squares: first and second moments, of the same shapes; updated in place.
        taken: steps taken, (n,) float32; updated in place.
        lr: learning rate of each member.
    """

    def __init__(
        self, parameters: list[Tensor], means: list[Tensor], squares: list[Tensor], taken: Tensor, lr: Sequence[float]
    ) -> None:
        self.parameters, self.means, self.squares, self.taken = parameters, means, squares, taken
        self.lr, self.rates = lr, torch.tensor(lr, dtype=parameters[0].dtype, device=parameters[0].device)
        columns = [zip(*(t.detach().unbind(0) for t in stack), strict=True) for stack in (parameters, means, squares)]
        self._rows = [[list(row) for row in rows] for rows in zip(*columns, strict=True)]
        self._counts = [[count] * len(parameters) for count in taken.unbind(0)]

    def step(self, gradients: list[Tensor], learning: Tensor | None = None) -> None:
        """One step of each member.

        Args:
            gradients: of the parameters, in their order and shapes.
            learning: which members learn, (n,) booleans; None: all do.
        """
        self.taken.add_(1 if learning is None else learning.to(self.taken.dtype))
        if self.taken.device.type == "cpu":
            self._each(gradients, [True] * len(self.lr) if learning is None else learning.tolist())
        else:
            self._together(gradients, learning)

    def _each(self, gradients: list[Tensor], learning: list[bool]) -> None:
        rows = zip(*(gradient.contiguous().unbind(0) for gradient in gradients), strict=True)
        for own, (p, m, v), count, lr, learns in zip(rows, self._rows, self._counts, self.lr, learning, strict=True):
            if learns:
                torch._fused_adam_(
                    p, list(own), m, v, [], count,
                    lr=lr, beta1=BETA1, beta2=BETA2, weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
                )  # fmt: skip

    def _together(self, gradients: list[Tensor], learning: Tensor | None) -> None:
        taken = self.taken.to(self.rates.dtype)
        learns = torch.ones_like(taken) if learning is None else learning.to(taken.dtype)
        rate = learns * self.rates / (1 - BETA1**taken).clamp(min=EPSILON)  # no step, no correction: 0 / 0 otherwise
        root = (1 - BETA2**taken).sqrt().clamp(min=EPSILON)
        kept1, kept2 = 1 - (1 - BETA1) * learns, 1 - (1 - BETA2) * learns
        for p, g, m, v in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            row = (-1, *[1] * (p.dim() - 1))
            m.lerp_(g, (1 - kept1).view(row))
            v.mul_(kept2.view(row)).add_(g.square().mul_((1 - kept2).view(row)))
            p.sub_(m.div(v.sqrt().div_(root.view(row)).add_(EPSILON)).mul_(rate.view(row)))


def clip(gradients: list[Tensor], largest: Tensor) -> None:
    """Scales the gradients of each member in place to a norm over all of them of at most `largest`, (n,).

    `torch.nn.utils.clip_grad_norm_` for each member.
    """
    norm = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))
