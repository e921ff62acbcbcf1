"""A prior on the Poincaré ball."""

from __future__ import annotations

from typing import final

from torch import Tensor
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.flow import Flow
from vaebench.distributions.hyperbolic import Exponential
from vaebench.measures import DataSpec, Shape
from vaebench.priors import Prior, StandardNormal


@final
class WrappedNormal(Prior):
    """z = exp_0(v), v ~ N(0, I): the standard normal laid onto the ball around its centre.

    Points of the ball are float64 (`distributions.hyperbolic`); the likelihood sees them in its own precision.

    Reference:
        Nagano et al. 2019 (https://arxiv.org/abs/1902.02992).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: not read.
    """

    space = "the Poincaré ball"

    def __init__(self, latent: Shape, data: DataSpec | None = None, posterior: LazyDistribution | None = None) -> None:
        super().__init__()
        self.tangent = StandardNormal(latent)
        self.seen = latent

    def forward(self, c: Tensor | None = None) -> Flow:
        return Flow(DiagonalNormal(self.tangent.loc.double(), self.tangent.scale.double()), [Exponential()])

    def see(self, z: Tensor) -> Tensor:
        """z (*, n) in the precision of the model."""
        return z.to(self.tangent.loc.dtype)
