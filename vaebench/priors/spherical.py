"""A prior on the unit sphere."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from zuko.lazy import LazyDistribution

from vaebench.distributions import spherical
from vaebench.measures import DataSpec, Shape
from vaebench.priors import Prior


@final
class SphericalUniform(Prior):
    """p(z) = 1/|S^{n−1}| on the unit sphere.

    Reference:
        Davidson et al. 2018 (https://arxiv.org/abs/1804.00891).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
    """

    space = "the unit sphere"
    like: Tensor

    def __init__(self, latent: Shape, data: DataSpec | None = None, posterior: LazyDistribution | None = None) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(latent))

    def forward(self, c: Tensor | None = None) -> spherical.SphericalUniform:
        return spherical.SphericalUniform(self.like)
