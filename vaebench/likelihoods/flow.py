"""A normalizing flow as a decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from zuko.flows import MAF

from vaebench.distributions.dequantised import FlowDensity
from vaebench.likelihoods import LocationScale
from vaebench.measures import CONTINUOUS, DISCRETE, DataSpec, Shape

BOUND = (
    "p(x|z) is a density on dequantised images, and what stands for log p(x|z) is one draw of the bound "
    "E_u log p((x(N−1) + u)/N | z) − D log N with u uniform: at most log P(x|z) in the mean"
)


class Flow(LocationScale):
    r"""x = μ(z) + s ε with ε from affine couplings of the pixels, conditioned on z: a density with dependent pixels.

    A density for continuous images; for levels, the bound of uniform dequantisation (`FlowDensity`). A coupling changes
    half of the pixels, given the other half and z: Dinh et al. 2017 (https://arxiv.org/abs/1605.08803), here with fully
    connected networks; as a decoder of a latent: Agrawal & Dukkipati 2016 (https://arxiv.org/abs/1611.09630). Couplings
    are initialised close to the identity, so that the mean is close to μ(z).

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        transforms: number of couplings; at least 2 to change every pixel.
        width: units of a coupling's hidden layers.
        depth: number of a coupling's hidden layers.
        parts: net, scale, initial, floor, start_at_mean; see `LocationScale`.
    """

    support = frozenset({CONTINUOUS, DISCRETE})

    def __init__(
        self, latent: Shape, data: DataSpec, transforms: int = 4, width: int = 200, depth: int = 1, **parts: Any
    ) -> None:
        self.levels = data.levels
        super().__init__(latent, data, **parts)
        self.bound = BOUND if data.levels else ""
        self.latent = len(latent)
        features = data.dimensions
        self.flow = MAF(features, torch.Size(latent).numel(), transforms, passes=2, hidden_features=[width] * depth)
        with torch.no_grad():
            for coupling in self.flow.transform.transforms:
                for parameter in coupling.hyper[-1].parameters():
                    parameter.mul_(0.01)

    def location(self, mean: Tensor, scale: float) -> Tensor:
        """The mean, for levels at the middle of its bin."""
        return mean if self.levels is None else (mean * (self.levels - 1) + 0.5) / self.levels

    def forward(self, c: Tensor | None = None) -> Distribution:
        assert c is not None  # a decoder has a latent
        loc, scale = self.location_scale(c)
        return FlowDensity(loc, scale, self.flow(c.flatten(-self.latent)), self.levels, len(self.shape))
