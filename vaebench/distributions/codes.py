"""Distributions over codes: n places that each hold one of k vectors of a codebook, side by side in one flat z.

A latent holds the codes' vectors, not their indices: z (…, m d), with the m = n l codes of n places and l levels.
`Codes.indices` recovers the indices. Densities are with respect to the counting measure, so log-probabilities are at
most 0.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence, register_kl

from vaebench.distributions import SampleShape
from vaebench.functional.objectives import with_gradient
from vaebench.functional.quantisation import looked_up, nearest_codes
from vaebench.networks.codes import CodeNetwork


class _OfCodebook(constraints.Constraint):
    """Vectors of a codebook, alone or beside real numbers."""

    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return torch.isfinite(value).all(-1)

    def __repr__(self) -> str:
        return "codes of a codebook"  # as reasons name it


class Codes(Distribution):
    """A distribution over m codes of one codebook.

    Args:
        book: the codebook, (l, k, d).
        places: n; m = n l.
        batch: shape of the batch.

    Attributes:
        size: k.
        count: m.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = _OfCodebook()

    def __init__(self, book: Tensor, places: int, batch: torch.Size) -> None:
        self.book, self.places = book, places
        levels, self.size, width = book.shape
        self.count = places * levels
        super().__init__(batch, torch.Size((self.count * width,)), validate_args=False)

    @property
    def owners(self) -> Tensor:
        """The code of each value of z, (m d,), which evaluation treats as one unit."""
        return torch.arange(self.count, device=self.book.device).repeat_interleave(self.book.shape[-1])

    @property
    def most(self) -> float:
        """m log k, nats: the capacity of the codes."""
        return self.count * math.log(self.size)

    def indices(self, z: Tensor) -> Tensor:
        """The indices of the codes in z (…, m d): (…, m), place by place and level by level."""
        levels, _, width = self.book.shape
        return nearest_codes(z.unflatten(-1, (self.places, levels, width)), self.book).flatten(-2)

    def vectors(self, indices: Tensor) -> Tensor:
        """The z (…, m d) of codes with indices (…, m)."""
        return looked_up(indices.unflatten(-1, (self.places, len(self.book))), self.book).flatten(-3)


class PointMass(Codes):
    """A point mass on one z, the posterior of a quantising encoder: log q is 0 there, and −∞ at all other codes.

    Args:
        point: z (*batch, m d), of codes in the book, with its own gradient.
        book, places: see `Codes`.
    """

    has_rsample = True

    def __init__(self, point: Tensor, book: Tensor, places: int) -> None:
        self.point = point
        super().__init__(book, places, point.shape[:-1])

    @property
    def mean(self) -> Tensor:
        return self.point

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        return self.point.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        # vectors, since of two equal codes rounding decides which index is the nearest
        here = (self.vectors(self.indices(value)) == self.vectors(self.indices(self.point))).all(-1)
        return torch.where(here, 0.0, -math.inf).to(self.point.dtype)


class Categorical(Codes):
    """m independent codes, each with logits of its own.

    Args:
        logits: (*batch, m, k).
        book, places: see `Codes`.
    """

    def __init__(self, logits: Tensor, book: Tensor, places: int) -> None:
        self.logits = F.log_softmax(logits, -1)
        super().__init__(book, places, logits.shape[:-2])

    @property
    def factors(self) -> Distribution:
        """The distributions of the codes' indices, of batch shape (*batch, m)."""
        return torch.distributions.Categorical(logits=self.logits, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Σ_i p_i e_i of every place: the probabilities themselves where the codes are one-hot."""
        probabilities = self.logits.exp().unflatten(-2, (self.places, len(self.book)))
        return torch.einsum("...lk,lkd->...ld", probabilities, self.book).flatten(-3)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.logits.shape
        with torch.no_grad():
            return self.vectors((self.logits + gumbel(shape, self.logits)).argmax(-1))

    def log_prob(self, value: Tensor) -> Tensor:
        return picked(self.logits, self.indices(value))


class Sequential(Codes):
    """m codes one after the other, each given all before it.

    Args:
        net: maps indices (*batch, m) to logits (*batch, m, k), where those of code i depend on earlier indices only.
        book, places: see `Codes`.
    """

    def __init__(self, net: CodeNetwork, book: Tensor, places: int) -> None:
        self.net = net
        super().__init__(book, places, torch.Size())

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """Samples; the network determines the number of passes (`CodeNetwork.sample`)."""
        shape = torch.Size(sample_shape)

        def pick(logits: Tensor) -> Tensor:
            return (logits + gumbel(logits.shape, logits)).argmax(-1)

        with torch.no_grad():
            return self.vectors(self.net.sample(pick, shape.numel()).reshape(*shape, self.count))

    def log_prob(self, value: Tensor) -> Tensor:
        indices = self.indices(value)
        return picked(F.log_softmax(self.net(indices), -1), indices)


class UnitsAndCodes(Distribution):
    """Independent normal units and codes, side by side in one z (…, d + m k), units first.

    Args:
        units: (*batch) of (d,).
        codes: (*batch) of (m k,).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = _OfCodebook()

    def __init__(self, units: Distribution, codes: Categorical) -> None:
        self.units, self.codes = units, codes
        self.sizes = [units.event_shape[0], codes.event_shape[0]]
        super().__init__(units.batch_shape, torch.Size((sum(self.sizes),)), validate_args=False)

    @property
    def owners(self) -> Tensor:
        """The unit or code of each value of z, (d + m k,)."""
        units = torch.arange(self.sizes[0], device=self.codes.book.device)
        return torch.cat([units, self.sizes[0] + self.codes.owners])

    @property
    def mean(self) -> Tensor:
        return torch.cat([self.units.mean, self.codes.mean], -1)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.units.rsample(sample_shape), self.codes.sample(sample_shape)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        units, codes = value.split(self.sizes, -1)
        return self.units.log_prob(units) + self.codes.log_prob(codes)


class Relaxed(Distribution):
    r"""The Concrete distribution, a relaxation of n independent one-hot codes: a density on the simplex of each.

    .. math:: \log p(z) = \log \Gamma(K) + (K - 1) \log \tau + \sum_k \big(\log \alpha_k - (\tau + 1) \log z_k\big)
              - K \log \sum_k \alpha_k z_k^{-\tau}

    with respect to Lebesgue measure on K − 1 of the values. Maddison, Mnih & Teh 2017
    (https://arxiv.org/abs/1611.00712); Jang, Gu & Poole 2017 (https://arxiv.org/abs/1611.01144).

    Args:
        logits: log α up to a constant, (*batch, n, K).
        temperature: τ > 0; as it falls to 0, samples become one-hot.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.independent(constraints.unit_interval, 1)
    has_rsample = True

    def __init__(self, logits: Tensor, temperature: Tensor) -> None:
        self.logits, self.temperature = logits, temperature
        super().__init__(logits.shape[:-2], torch.Size((logits.shape[-2] * logits.shape[-1],)), validate_args=False)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        """z = softmax((log α + g) / τ), with g from the Gumbel distribution, flat: (*sample_shape, *batch, n K)."""
        return self.log_rsample(sample_shape).exp()

    def log_rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        """log z of such samples, finite also where z underflows in float32, as at temperatures below 0.3."""
        shape = torch.Size(sample_shape) + self.logits.shape
        return ((self.logits + gumbel(shape, self.logits)) / self.temperature).log_softmax(-1).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_at(value.clamp(min=torch.finfo(value.dtype).tiny).log())

    def log_prob_at(self, log_value: Tensor) -> Tensor:
        """The same density of z, given log z."""
        size = self.logits.shape[-1]
        log_z = log_value.unflatten(-1, (-1, size))
        scores = self.logits - self.temperature * log_z
        log_p = (scores - log_z).sum(-1) - size * torch.logsumexp(scores, -1)
        return (log_p + math.lgamma(size) + (size - 1) * self.temperature.log()).sum(-1)

    def straight_through(self, sample_shape: SampleShape = ()) -> Tensor:
        """One-hot samples of the codes, with the gradient of the relaxed samples.

        The straight-through estimator of Jang et al., section 2.2: its gradient is biased.
        """
        soft = self.rsample(sample_shape).unflatten(-1, self.logits.shape[-2:])
        numbers = torch.arange(self.logits.shape[-1], device=soft.device)
        hard = (soft.argmax(-1, keepdim=True) == numbers).to(soft.dtype)
        return with_gradient(hard, soft).flatten(-2)


def gumbel(shape: torch.Size, like: Tensor) -> Tensor:
    """Gumbel noise of the type of `like`; the argmax of logits plus noise is a sample."""
    uniform = torch.rand(shape, dtype=like.dtype, device=like.device)
    limits = torch.finfo(like.dtype)
    return -(-uniform.clamp(limits.tiny, 1 - limits.eps).log()).log()


def picked(log_p: Tensor, indices: Tensor) -> Tensor:
    """Σ_i log p_i at given indices: log-probabilities (…, m, k) and indices (…, m), which broadcast -> (…)."""
    batch = torch.broadcast_shapes(log_p.shape[:-1], indices.shape)
    return log_p.expand(*batch, log_p.shape[-1]).gather(-1, indices.expand(batch)[..., None])[..., 0].sum(-1)


@register_kl(PointMass, Codes)
def _point(q: PointMass, p: Codes) -> Tensor:
    return -p.log_prob(q.point)


@register_kl(Categorical, Categorical)
def _categorical(q: Categorical, p: Categorical) -> Tensor:
    return (q.logits.exp() * (q.logits - p.logits)).sum((-2, -1))


@register_kl(UnitsAndCodes, UnitsAndCodes)
def _joint(q: UnitsAndCodes, p: UnitsAndCodes) -> Tensor:
    return kl_divergence(q.units, p.units) + kl_divergence(q.codes, p.codes)
