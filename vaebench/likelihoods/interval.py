"""Likelihoods of continuous images with support [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaebench.distributions import interval
from vaebench.distributions.interval import solved, tilted_mean
from vaebench.likelihoods import Likelihood, LocationScale
from vaebench.measures import CONTINUOUS, DataSpec, Shape
from vaebench.networks import MLP, Network

LEAST = 1e-2  # of α and β; smaller values give a spike at 0 or 1


class ContinuousBernoulli(Likelihood):
    """p(x|z) = Π_d C(l_d) σ(l_d)^x_d σ(−l_d)^(1−x_d) with l = l(z), for continuous images, normalised.

    Loaiza-Ganem & Cunningham 2019 (https://arxiv.org/abs/1907.06845); see `distributions.interval`.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        net: builds the network from latents to logits.
        start_at_mean: initialise the output bias so that the density has the training mean, clamped to
            [1e-3, 1 − 1e-3].
    """

    support = frozenset({CONTINUOUS})

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        net: Callable[[Shape, Shape], Network] = MLP,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__()
        self.event = len(data.shape)
        self.net = net(latent, data.shape)
        if start_at_mean:
            self.start(self.net, data.mean, lambda m: solved(tilted_mean, m.clamp(1e-3, 1 - 1e-3), -2000.0, 2000.0))

    def forward(self, c: Tensor | None = None) -> Distribution:
        return interval.ContinuousBernoulli(self.net(c), self.event)


class Beta(LocationScale):
    """p(x|z) = Π_d Beta(x_d; α_d, β_d) with α = ε + m/s², β = ε + (1 − m)/s² and m = σ(l(z)), for continuous images.

    The scale s is approximately the standard deviation over √(m (1 − m)), and ε = 0.01 avoids spikes at the ends. See
    `LocationScale`; here the location is the logit of m.
    """

    support = frozenset({CONTINUOUS})

    def location(self, mean: Tensor, scale: float) -> Tensor:
        return torch.logit(mean + (2 * mean - 1) * LEAST * scale**2, 1e-3)

    def forward(self, c: Tensor | None = None) -> Distribution:
        logits, scale = self.location_scale(c)
        alpha, beta = (LEAST + torch.sigmoid(side) / scale.square() for side in (logits, -logits))
        return Independent(interval.Beta(alpha, beta), len(self.shape), validate_args=False)


class TruncatedGaussian(LocationScale):
    """p(x|z) = N(x; μ(z), σ²) given 0 ≤ x ≤ 1, for continuous images; see `LocationScale` for μ and σ."""

    support = frozenset({CONTINUOUS})

    def location(self, mean: Tensor, scale: float) -> Tensor:
        def mean_of(loc: Tensor) -> Tensor:
            return interval.TruncatedNormal(loc, loc.new_tensor(scale)).mean

        return solved(mean_of, mean.clamp(1e-2, 1 - 1e-2), -1e3 * scale, 1 + 1e3 * scale)

    def forward(self, c: Tensor | None = None) -> Distribution:
        loc, scale = self.location_scale(c)
        return interval.TruncatedNormal(loc, scale, len(self.shape))
