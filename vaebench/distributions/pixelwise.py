"""Pixelwise distributions that torch lacks: a density, and a surrogate."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import SampleShape
from vaebench.functional.ssim import ms_ssim

__all__ = ["HyperbolicSecant", "Similarity"]


class HyperbolicSecant(Distribution):
    r"""Independent pixels with the density whose logarithm is a log-cosh loss.

    .. math:: p(x) = \frac{1}{s\,B(\nu/2, 1/2)} \cosh\Big(\frac{x - \mu}{s}\Big)^{-\nu}

    with Euler's beta function B, which is π at ν = 1, the hyperbolic secant distribution. Close to μ it is like a
    Gaussian of variance s²/ν, far from it like a Laplace density of scale s/ν.

    Args:
        loc: μ, of shape (*batch, *event).
        scale: s > 0, broadcastable to loc.
        exponent: ν > 0.
        event: number of event dimensions.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Tensor, scale: Tensor, exponent: float = 1.0, event: int = 1) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.exponent = exponent
        split = self.loc.dim() - event
        super().__init__(self.loc.shape[:split], self.loc.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """x = μ + s (log u − log v)/2 with u, v ~ Gamma(ν/2), whose logarithms are drawn: small ν underflow."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            half = torch.full((2, *shape), self.exponent / 2, dtype=self.loc.dtype, device=self.loc.device)
            log_u, log_v = torch._standard_gamma(half + 1).log() + torch.rand_like(half).log() / half
            return self.loc + self.scale * (log_u - log_v) / 2

    def log_prob(self, value: Tensor) -> Tensor:
        t = (value - self.loc) / self.scale
        log_cosh = t + F.softplus(-2 * t) - math.log(2)
        nu = self.exponent
        log_beta = math.lgamma(nu / 2) + math.lgamma(0.5) - math.lgamma((nu + 1) / 2)
        density = -nu * log_cosh - self.scale.log() - log_beta
        return density.flatten(-len(self.event_shape)).sum(-1)


class Similarity(Distribution):
    """−w (1 − MS-SSIM(x, x̂)) in place of log p(x|z): an unnormalised score without samples.

    Args:
        mean: x̂ in [0, 1], of shape (*batch, c, h, w).
        weight: w, cost of two images without similarity, nats.
        scales: of `vaebench.functional.ssim.ms_ssim`.
    """

    arg_constraints = {"mean": constraints.unit_interval}
    support = constraints.unit_interval

    def __init__(self, mean: Tensor, weight: float, scales: int) -> None:
        self.image, self.weight, self.scales = mean, weight, scales
        super().__init__(mean.shape[:-3], mean.shape[-3:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.image

    def log_prob(self, value: Tensor) -> Tensor:
        return -self.weight * (1 - ms_ssim(self.image, value, self.scales))
