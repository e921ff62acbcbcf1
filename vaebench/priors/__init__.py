"""Priors p(z): modules without a context.

A prior is built from the latent's shape, the data and the posterior; a mixture of posteriors uses all three. A prior
that uses the posterior must not register it again (`Shared`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Independent
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal
from vaebench.measures import DataSpec, Shape
from vaebench.networks.unregistered import Shared
from vaebench.traits import PriorTraits

__all__ = ["Prior", "PriorFactory", "Shared", "StandardNormal"]

PriorFactory = Callable[[Shape, DataSpec, LazyDistribution], LazyDistribution]


class Prior(PriorTraits, LazyDistribution):
    """-> p(z), with declared traits, and the view of z that the likelihood receives (`see`)."""


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: Shape, data: DataSpec | None = None, posterior: LazyDistribution | None = None) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def forward(self, c: Tensor | None = None) -> Independent:
        return DiagonalNormal(self.loc, self.scale, self.loc.dim())
