"""Models whose answers are known exactly: by linear algebra, by quadrature, or by construction. All in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, OneHotCategorical, kl_divergence

from vaebench.core import DataSpec
from vaebench.distributions import Bernoulli, DiagonalNormal
from vaebench.distributions.hierarchy import Hierarchy, Order, Walk, join


@dataclass
class Parts:
    """A model made of three functions."""

    posterior: Callable[[Tensor], Distribution]
    prior: Callable[[], Distribution]
    likelihood: Callable[[Tensor], Distribution]


@dataclass
class Data:
    """A data module with nothing but test images, and labels if there are."""

    x: Tensor
    spec: DataSpec = field(default_factory=lambda: DataSpec((1, 4, 4)))
    y: Tensor | None = None

    def images(self, split: str) -> Tensor:
        assert split == "test", "evaluation reads the test split alone"
        return self.x

    def labels(self, split: str) -> Tensor | None:
        return self.y if split == "test" else None


class LinearGaussian:
    """Probabilistic PCA (Tipping & Bishop 1999): z ~ N(0, I), x|z ~ N(W z + μ, σ² I).

    Then x ~ N(μ, W Wᵀ + σ² I) and z|x ~ N(M⁻¹ Wᵀ (x − μ), σ² M⁻¹) with M = Wᵀ W + σ² I, which is diagonal where the
    columns of W are orthogonal.

    Args:
        shape: of an image.
        latent: number of units.
        sigma: σ.
        orthogonal: rotate W so that the exact posterior factorises, and give it as a product.
        stretch: multiplies the posterior's standard deviations: 1 is exact.
        shift: added to the posterior's mean: 0 is exact.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (1, 4, 4),
        latent: int = 3,
        sigma: float = 0.3,
        orthogonal: bool = False,
        stretch: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.shape, self.latent, self.sigma = shape, latent, sigma
        self.stretch, self.shift, self.orthogonal = stretch, shift, orthogonal
        size = math.prod(shape)
        weight = torch.randn(size, latent, generator=generator, dtype=torch.float64) / 2
        self.weight = torch.linalg.qr(weight)[0] * torch.tensor([1.5, 0.8, 0.3])[:latent] if orthogonal else weight
        self.mean = torch.full((size,), 0.5, dtype=torch.float64)
        self.precision = (self.weight.T @ self.weight + sigma**2 * _eye(latent)) / sigma**2

    def exact_posterior(self, x: Tensor) -> MultivariateNormal:
        centred = x.flatten(-len(self.shape)) - self.mean
        mean = torch.linalg.solve(self.precision, (centred @ self.weight).T).T / self.sigma**2
        return MultivariateNormal(mean, precision_matrix=self.precision)

    def posterior(self, x: Tensor) -> Distribution:
        exact = self.exact_posterior(x)
        mean = exact.mean + self.shift
        if self.orthogonal:
            return Independent(Normal(mean, exact.stddev * self.stretch), 1)
        return MultivariateNormal(mean, scale_tril=exact.scale_tril * self.stretch)

    def prior(self) -> Distribution:
        zeros = torch.zeros(self.latent, dtype=torch.float64)
        if self.orthogonal:
            return DiagonalNormal(zeros, zeros + 1)
        return MultivariateNormal(zeros, _eye(self.latent))

    def likelihood(self, z: Tensor) -> Distribution:
        loc = (z @ self.weight.T + self.mean).unflatten(-1, self.shape)
        return DiagonalNormal(loc, torch.full_like(loc, self.sigma), len(self.shape))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x), exactly: (n,)."""
        covariance = self.weight @ self.weight.T + self.sigma**2 * _eye(len(self.mean))
        return MultivariateNormal(self.mean, covariance).log_prob(x.flatten(-len(self.shape)))

    def elbo(self, x: Tensor) -> Tensor:
        """log p(x) − KL(q(z|x)‖p(z|x)), exactly: (n,)."""
        q, exact = self.posterior(x), self.exact_posterior(x)
        full = MultivariateNormal(q.mean, torch.diag_embed(q.variance)) if self.orthogonal else q
        return self.log_likelihood(x) - kl_divergence(full, exact)

    def images(self, n: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(n, *self.shape, generator=generator, dtype=torch.float64)


class LinearChain:
    """z_2 ~ N(0, I), z_1|z_2 ~ N(A z_2 + a, s² I), x|z_1 ~ N(W z_1 + μ, σ² I): all of it is one Gaussian.

    Args:
        order: in which the exact posterior is drawn.
        idle: whether the first unit of z_2 has no influence.
    """

    shape, sizes = (1, 3, 3), (3, 2)

    def __init__(self, order: Order = "down", idle: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.order = order
        self.a, self.w = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((3, 2), (9, 3)))
        self.a[:, 0] *= 0 if idle else 1
        self.shift, self.mean = torch.randn(3, generator=generator).double(), torch.full((9,), 0.5).double()
        self.s, self.sigma = 0.7, 0.4

    def prior(self) -> Hierarchy:
        def walk() -> Walk:
            z2 = yield DiagonalNormal(torch.zeros(2).double(), torch.ones(2).double())
            yield DiagonalNormal(
                z2 @ self.a.T + self.shift, torch.full((3,), self.s).double().expand(*z2.shape[:-1], 3)
            )

        return Hierarchy(walk, self.sizes, "down")

    def likelihood(self, z: Tensor) -> Distribution:
        loc = (z[..., :3] @ self.w.T + self.mean).unflatten(-1, self.shape)
        return DiagonalNormal(loc, torch.full_like(loc, self.sigma), 3)

    def joint(self) -> MultivariateNormal:
        """Of (x, z_1, z_2), by the noises that they are sums of."""
        from_z2 = torch.cat([self.w @ self.a, self.a, _eye(2)])
        from_z1 = torch.cat([self.w, _eye(3), torch.zeros(2, 3)]) * self.s
        from_x = torch.cat([_eye(9), torch.zeros(5, 9)]) * self.sigma
        mean = torch.cat([self.w @ self.shift + self.mean, self.shift, torch.zeros(2)])
        return MultivariateNormal(mean, sum(m @ m.T for m in (from_z2, from_z1, from_x)))

    def posterior(self, x: Tensor) -> Hierarchy:
        x = x.flatten(1)
        z1, z2 = list(range(9, 12)), [12, 13]
        first, second = (z1, z2) if self.order == "up" else (z2, z1)

        def walk() -> Walk:
            z = yield self._given(first, list(range(9)), x)
            yield self._given(second, [*range(9), *first], join(x, z))

        return Hierarchy(walk, self.sizes, self.order, x.shape[:1])

    def _given(self, of: list[int], known: list[int], value: Tensor) -> MultivariateNormal:
        """The conditional of some coordinates of the joint, given others."""
        mean, covariance = self.joint().mean, self.joint().covariance_matrix
        gain = torch.linalg.solve(covariance[known][:, known], covariance[known][:, of]).T
        rest = covariance[of][:, of] - gain @ covariance[known][:, of]
        return MultivariateNormal(mean[of] + (value - mean[known]) @ gain.T, (rest + rest.T) / 2)

    def log_likelihood(self, x: Tensor) -> Tensor:
        joint = self.joint()
        return MultivariateNormal(joint.mean[:9], joint.covariance_matrix[:9, :9]).log_prob(x.flatten(1))

    def images(self, n: int, seed: int = 0) -> Tensor:
        """Samples of x, wherever they lie."""
        noise = torch.randn(n, 14, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        joint = self.joint()
        return (joint.mean + noise @ joint.scale_tril.T)[:, :9].unflatten(1, self.shape)


class OneLatent:
    """z ~ N(0, 1) and Bernoulli pixels with logits 3 sin(2 z + φ_d): log p(x) by quadrature over z."""

    shape = (1, 3, 4)

    def __init__(self) -> None:
        self.phase = torch.linspace(-2, 2, math.prod(self.shape), dtype=torch.float64)

    def posterior(self, x: Tensor) -> Distribution:
        mean = x.flatten(1).mean(1, keepdim=True) - 0.5
        return DiagonalNormal(mean, torch.full_like(mean, 1.2))

    def prior(self) -> Distribution:
        zero = torch.zeros(1, dtype=torch.float64)
        return DiagonalNormal(zero, zero + 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Bernoulli((3 * torch.sin(2 * z + self.phase)).unflatten(-1, self.shape), len(self.shape))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log ∫ p(x|z) p(z) dz by the trapezoidal rule, which is exact to rounding for so smooth an integrand: (n,)."""
        z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)[:, None, None]
        log_joint = self.likelihood(z).log_prob(x) + self.prior().log_prob(z)
        return torch.logsumexp(log_joint, 0) + math.log(24 / 24_000)

    def images(self, n: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(n, *self.shape, generator=generator, dtype=torch.float64) < 0.5).double()


class Codes:
    """z is one of four codes with probabilities (0.4, 0.3, 0.2, 0.1), one-hot; Bernoulli pixels: log p(x) is a sum.

    Args:
        exact: take p(z|x) for q; else the prior.
    """

    shape = (1, 2, 3)

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self.table = torch.randn(4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2

    def prior(self) -> Distribution:
        return OneHotCategorical(torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64))

    def posterior(self, x: Tensor) -> Distribution:
        logits = self.log_joint(x).T
        return OneHotCategorical(logits=logits if self.exact else self.prior().logits.expand_as(logits))

    def likelihood(self, z: Tensor) -> Distribution:
        return Bernoulli((z @ self.table).unflatten(-1, self.shape), len(self.shape))

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z) of every code, (4, n)."""
        z = torch.eye(4, dtype=torch.float64)[:, None]
        return self.likelihood(z).log_prob(x) + self.prior().log_prob(z)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log Σ_z p(x|z) p(z): (n,)."""
        return torch.logsumexp(self.log_joint(x), 0)

    def images(self, n: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(n, *self.shape, generator=generator, dtype=torch.float64) < 0.5).double()


class Channels:
    """Pixel d is written into unit d and read back from it, each only where it is said so.

    q(z_d|x) = N(writes_d (2 x_d − 1), s_d²), with s_d = 0.3 where written, and `idle_scale` elsewhere; the logit of
    pixel d is 4 reads_d z_d. With writes = reads = 1 the model is healthy.

    Args:
        writes: 0 or 1 a unit.
        reads: 0 or 1 a unit.
        idle_scale: 1 makes an unwritten unit equal its prior.
    """

    def __init__(self, writes: list[int], reads: list[int], idle_scale: float = 1.0) -> None:
        self.writes, self.reads = (torch.tensor(v, dtype=torch.float64) for v in (writes, reads))
        self.scale = torch.where(self.writes > 0, 0.3, idle_scale).double()
        self.shape = (1, 1, len(writes))

    def posterior(self, x: Tensor) -> Distribution:
        mean = self.writes * (2 * x.flatten(1) - 1)
        return DiagonalNormal(mean, self.scale.expand_as(mean))

    def prior(self) -> Distribution:
        return DiagonalNormal(torch.zeros_like(self.scale), torch.ones_like(self.scale))

    def likelihood(self, z: Tensor) -> Distribution:
        return Bernoulli((4 * self.reads * z).unflatten(-1, self.shape), 3)

    def kl(self) -> Tensor:
        """KL of each unit, nats, the same for every binary image."""
        return -self.scale.log() + (self.scale**2 + self.writes**2 - 1) / 2

    def images(self, n: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(n, *self.shape, generator=generator, dtype=torch.float64) < 0.5).double()


def _eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def without(model: Any, **missing: str) -> Parts:
    """The model with q, p or p(x|z) robbed of one of its methods: ``without(model, posterior="log_prob")``."""

    def rob(part: Callable[..., Distribution], name: str) -> Callable[..., Distribution]:
        def robbed(*args: Tensor) -> Distribution:
            d = part(*args)
            attributes = {name: property(_refuse) if name == "mean" else _refuse}
            d.__class__ = type(type(d).__name__, (type(d),), attributes)
            return d

        return robbed

    parts = {name: getattr(model, name) for name in ("posterior", "prior", "likelihood")}
    return Parts(**{name: rob(part, missing[name]) if name in missing else part for name, part in parts.items()})


def _refuse(*args: object) -> Distribution:
    raise NotImplementedError
