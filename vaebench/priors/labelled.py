"""A prior that is conditioned on the class of an image."""

from __future__ import annotations

from typing import cast, final

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from vaebench.distributions import DiagonalNormal
from vaebench.measures import Shape
from vaebench.priors import Prior


@final
class NormalOfClass(Prior):
    """p(z|y) = N(μ_y, diag σ_y²), initially N(0, I) for every class.

    Args:
        classes: number of labels.
        units: shape of a latent, (n,).
    """

    def __init__(self, classes: int, units: Shape) -> None:
        super().__init__()
        self.loc, self.log_scale = (nn.Parameter(torch.zeros(classes, *units)) for _ in range(2))

    def forward(self, c: Tensor | None = None) -> Independent:
        """c: one-hot labels, (b, classes)."""
        known = cast(Tensor, c)
        return DiagonalNormal(known @ self.loc, (known @ self.log_scale).exp())
