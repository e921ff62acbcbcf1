"""Priors p(z): modules without a context.

A prior is built from the latent's shape, the data and the posterior: a mixture of posteriors needs all three, others
take only what they read. A prior that reads the posterior must not register it a second time (`Shared`).
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
    """-> p(z), with what it declares of itself, and what it shows the likelihood of z."""


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: not read.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: Shape, data: DataSpec | None = None, posterior: LazyDistribution | None = None) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def forward(self, c: Tensor | None = None) -> Independent:
        return DiagonalNormal(self.loc, self.scale, self.loc.dim())
