"""A prior on the Poincaré ball."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from torch import Tensor
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.flow import Flow
from vaebench.distributions.hyperbolic import Exponential
from vaebench.measures import DataSpec, Shape
from vaebench.priors import Prior, StandardNormal
from vaebench.ranges import POSITIVE, Range, require_ranges


@final
class WrappedNormal(Prior):
    """z = exp_0(v), v ~ N(0, I): the standard normal, wrapped onto the ball around its centre.

    Points of the ball are float64 (`distributions.hyperbolic`); the likelihood receives them in the model's precision.

    Reference:
        Nagano et al. 2019 (https://arxiv.org/abs/1902.02992).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
        scale: standard deviation of v; None is 1. v is half as long as the distance from the centre, so that 1/2 is a
            unit of distance, and √c/2 the unit of a ball of curvature −c.
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"scale": POSITIVE}

    space = "the Poincaré ball"

    def __init__(
        self,
        latent: Shape,
        data: DataSpec | None = None,
        posterior: LazyDistribution | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        require_ranges(WrappedNormal, {"scale": scale}, "prior.")
        self.tangent, self.scale = StandardNormal(latent), 1.0 if scale is None else scale
        self.seen = latent

    def forward(self, c: Tensor | None = None) -> Flow:
        scale = self.scale * self.tangent.scale.double()
        return Flow(DiagonalNormal(self.tangent.loc.double(), scale), [Exponential()])

    def see(self, z: Tensor) -> Tensor:
        """z (*, n) in the precision of the model."""
        return z.to(self.tangent.loc.dtype)
