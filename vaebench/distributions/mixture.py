"""Mixtures of distributions, with stratified sampling for Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import Normal, SampleShape


class GaussianMixture(Distribution):
    r"""p(z) = Σ_c π_c N(z; μ_c, diag σ_c²).

    `rsample` stratifies the k samples of a call over the components, in random order, so that every subset of them has
    the mixture's distribution in expectation. Gradients pass through the samples, but not to π through the choice of a
    component, so that a bound that trains π must be summed over components (`strata`).

    Args:
        loc: μ, (*batch, c, n), or (c, n) for components shared by a batch.
        scale: σ > 0, like loc.
        log_weights: log π, (*batch, c), normalised; −∞ leaves a component out.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, log_weights: Tensor) -> None:
        self.components, self.log_weights = Normal(loc, scale), log_weights
        super().__init__(log_weights.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return (self.log_weights.exp()[..., None] * self.components.loc).sum(-2)

    @property
    def variance(self) -> Tensor:
        second = self.components.variance + self.components.loc.square()
        return (self.log_weights.exp()[..., None] * second).sum(-2) - self.mean.square()

    def log_prob(self, value: Tensor) -> Tensor:
        common = self.components.loc.dim() == 2
        scores = self._by_product(value) if common else self.components.log_prob(value[..., None, :]).sum(-1)
        return torch.logsumexp(scores + self.log_weights, -1)

    def _by_product(self, value: Tensor) -> Tensor:
        """log N(z; μ_c, σ_c²), (*batch, c), as matrix products, which fit hundreds of components into a cache.

        In double precision, because of cancellation in z²/σ² − 2 z μ/σ² + μ²/σ² for small σ.
        """
        z, loc, scale = (t.double() for t in (value, self.components.loc, self.components.scale))
        precision = scale.square().reciprocal()
        squares = z.square() @ precision.mT - 2 * z @ (loc * precision).mT + (loc.square() * precision).sum(-1)
        constant = scale.log().sum(-1) + z.shape[-1] * math.log(2 * math.pi) / 2
        return (-squares / 2 - constant).to(value.dtype)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape, like = torch.Size(sample_shape), self.components.loc
        draws = (shape.numel(), *self.batch_shape)
        order = torch.rand(draws, dtype=like.dtype, device=like.device).argsort(0)
        place = (order + torch.rand(draws, dtype=like.dtype, device=like.device)) / max(draws[0], 1)  # one per stratum
        edges = self.log_weights.exp().cumsum(-1)[..., :-1]
        chosen = (place[..., None] >= edges).sum(-1)[..., None, None]
        loc, scale = (
            t.expand(*draws, *like.shape[-2:]).gather(-2, chosen.expand(*draws, 1, like.shape[-1])).squeeze(-2)
            for t in (like, self.components.scale)
        )
        return Normal(loc, scale).rsample().reshape(*shape, *self.batch_shape, *self.event_shape)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


class EqualMixture(Distribution):
    """p(z) = (1/K) Σ_k p_k(z), for any distributions that can be sampled.

    Args:
        components: (k) of (n,).
    """

    arg_constraints = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, components: Distribution) -> None:
        self.components = components
        super().__init__(components.batch_shape[:-1], components.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        scores = self.components.log_prob(value[..., None, :])
        return torch.logsumexp(scores, -1) - math.log(scores.shape[-1])

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        z = self.components.rsample(torch.Size(sample_shape))  # (*sample, k, n)
        chosen = (torch.rand_like(z[..., :1, :1]) * z.shape[-2]).long()
        return z.gather(-2, chosen.expand(*z.shape[:-2], 1, z.shape[-1])).squeeze(-2)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


def strata(q: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    """Samples of every component of q with weights that sum to one; other distributions count as one component.

    Args:
        q: (*batch) of (n,).
        samples: t ≥ 1, of each of c components.

    Returns:
        z (t c, *batch, n) and the logarithm of π_c / t for each of them, (t c, *batch).
    """
    if not isinstance(q, GaussianMixture):
        z = q.rsample(torch.Size((samples,)))
        return z, torch.full_like(z[..., 0], -math.log(samples))
    z = q.components.rsample(torch.Size((samples,))).movedim(-2, 1)  # (t, c, *batch, n)
    weights = (q.log_weights.movedim(-1, 0) - math.log(samples)).expand(z.shape[:-1])
    return z.flatten(0, 1), weights.flatten(0, 1)
