"""Distributions on the unit sphere S^{n−1} of n ≥ 3 dimensions, with densities against its surface measure."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy.special
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from vaebench.distributions import SampleShape

NODES, MOST = 256, 1000.0  # of the quadrature over w = μᵀz, and the largest κ for which it is exact to 1e-8 nats
TRIES = 32  # proposals per sample, of which more than half are accepted


def log_area(n: int) -> float:
    """log |S^{n−1}|, the surface of the unit sphere in n dimensions."""
    return math.log(2) + n / 2 * math.log(math.pi) - math.lgamma(n / 2)


@cache
def _quadrature(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and log-weights of ∫ f(w) (1 − w²)^((n−3)/2) dw over [−1, 1] (Gauss–Jacobi), copied to a device once."""
    nodes, weights = scipy.special.roots_jacobi(NODES, (n - 3) / 2, (n - 3) / 2)
    with np.errstate(divide="ignore"), torch.inference_mode(False):
        return torch.from_numpy(nodes).to(device), torch.from_numpy(np.log(weights)).to(device)


@cache
def _legendre(device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights of an integral over [0, 1], copied to a device once."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    with torch.inference_mode(False):
        return torch.from_numpy((nodes + 1) / 2).to(device), torch.from_numpy(weights / 2).to(device)


class SphericalUniform(Distribution):
    """The uniform distribution on the sphere.

    Args:
        like: any tensor (n,), which gives dimension, type and device.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, like: Tensor) -> None:
        self.like = like
        super().__init__(torch.Size(), like.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return F.normalize(torch.randn(shape, dtype=self.like.dtype, device=self.like.device), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.full_like(value[..., 0], -log_area(value.shape[-1]))


class VonMisesFisher(Distribution):
    r"""p(z) = C_n(κ) exp(κ μᵀz) on the sphere.

    .. math:: 1 / C_n(\kappa) = |S^{n-2}| \int_{-1}^1 e^{\kappa w} (1 - w^2)^{(n-3)/2}\, dw

    The integral, the derivatives of its logarithm and the divergence are sums over quadrature nodes, without Bessel
    functions. Samples are z = w μ + √(1 − w²) v with v uniform orthogonal to μ, and w by the rejection sampler of Wood
    1994 (https://doi.org/10.1080/03610919408813161) with a fixed number of proposals. Their gradient in κ is implicit,
    dw/dκ = −∂_κ F(w; κ)/p(w; κ), and so unbiased without a correction.

    Davidson et al. 2018 (https://arxiv.org/abs/1804.00891); Figurnov et al. 2018 (https://arxiv.org/abs/1805.08498).

    Args:
        loc: μ, of norm 1, (*batch, n), n ≥ 3.
        concentration: κ in (0, MOST], (*batch,).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        self.loc, self.concentration = loc, concentration
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)
        self.n = loc.shape[-1]
        nodes, weights = _quadrature(self.n, loc.device)
        exponents = concentration.double()[..., None] * nodes + weights
        self._log_integral = torch.logsumexp(exponents, -1)
        shares = torch.softmax(exponents, -1)
        self._mean = (shares * nodes).sum(-1)  # E[w]
        self._spread = ((shares * nodes.square()).sum(-1) - self._mean.square()).clamp(min=1e-16).sqrt()

    @property
    def mean(self) -> Tensor:
        return self._mean.to(self.loc.dtype)[..., None] * self.loc

    @property
    def centre(self) -> Tensor:
        """The direction of the mean, which itself lies inside the sphere."""
        return self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        normaliser = (self._log_integral + log_area(self.n - 1)).to(self.loc.dtype)
        return self.concentration * (self.loc * value).sum(-1) - normaliser

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        noise = torch.randn(
            self._extended_shape(torch.Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device
        )
        across = F.normalize(noise - (noise * self.loc).sum(-1, keepdim=True) * self.loc, dim=-1)
        kappa = self.concentration.double()
        w = self._cosines(noise.shape[:-1], kappa.detach())
        with torch.no_grad():
            slope = self._slope(w, kappa)
        w = (w + slope * (kappa - kappa.detach())).to(self.loc.dtype)[..., None]
        return w * self.loc + (1 - w.square()).clamp(min=1e-12).sqrt() * across

    def _cosines(self, shape: torch.Size, kappa: Tensor) -> Tensor:
        """w = μᵀz of samples of the given shape, the first accepted proposal of each."""
        like = self.loc
        m = self.n - 1
        b = m / (2 * kappa + (4 * kappa.square() + m**2).sqrt())
        x0 = (1 - b) / (1 + b)
        v = torch.randn((TRIES, *shape, self.n), dtype=like.dtype, device=like.device).double()
        beta = (1 + v[..., 0] / v.norm(dim=-1)) / 2  # Beta(m/2, m/2), as a coordinate on the sphere is
        w = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
        u = torch.rand((TRIES, *shape), dtype=like.dtype, device=like.device).double()
        accepted = kappa * (w - x0) + m * (torch.log1p(-x0 * w) - torch.log1p(-x0.square())) >= u.log()
        return w.gather(0, accepted.int().argmax(0, keepdim=True)).squeeze(0)

    def _slope(self, w: Tensor, kappa: Tensor) -> Tensor:
        """dw/dκ = ∫ (E[w] − t) p(t)/p(w) dt over t < w, or its negative over t > w: on the side away from E[w]."""
        nodes, weights = _legendre(w.device)
        side = torch.where(w < self._mean, -1.0, 1.0)
        length = torch.minimum(1 - side * w, 30 * self._spread)  # to the end of [−1, 1], or where nothing is left
        t = w[..., None] + (side * length)[..., None] * nodes
        ratio = kappa[..., None] * (t - w[..., None]) + (self.n - 3) / 2 * (
            torch.log1p(-t.square()) - torch.log1p(-w.square())[..., None]
        )
        return length * ((t - self._mean[..., None]).abs() * ratio.exp() * weights).sum(-1)


@register_kl(VonMisesFisher, SphericalUniform)
def _kl(q: VonMisesFisher, _: SphericalUniform) -> Tensor:
    """κ E[w] + log C_n(κ) + log |S^{n−1}|."""
    log_c = -(q._log_integral + log_area(q.n - 1))
    return (q.concentration.double() * q._mean + log_c + log_area(q.n)).to(q.loc.dtype)
