"""Priors p(z): modules without a context. A prior is built from the latent's shape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal
from vaebench.measures import Shape


class StandardNormal(LazyDistribution):
    """p(z) = N(0, I).

    Args:
        latent: shape of a latent, (n,).
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: Shape) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def forward(self, c: Tensor | None = None) -> Independent:
        return DiagonalNormal(self.loc, self.scale, self.loc.dim())
