"""Densities on [0, 1], the range of continuous images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Beta as TorchBeta
from torch.distributions import Distribution, constraints
from torch.special import erfc, erfcx, ndtri

from vaebench.distributions import SampleShape, uniform

__all__ = ["Beta", "ContinuousBernoulli", "TruncatedNormal", "solved"]

EDGE = 1e-6  # of [0, 1]: a Beta density may be zero or infinite at the ends


class Beta(TorchBeta):
    """Beta(α, β), with values closer to 0 or 1 than 1e-6 scored as if at that distance.

    At the ends, which images reach, the density may be zero or infinite. The change of the integral is at most 2e-6
    times the density there, and negative where α or β is below one. Scores are computed in float64: in float32
    1 − 1e-6 has an error of 1 %, and log Γ(1000) one of 1e-4.
    """

    def __init__(self, alpha: Tensor, beta: Tensor) -> None:
        super().__init__(alpha, beta, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        alpha, beta = self.concentration1.double(), self.concentration0.double()
        x = value.double().clamp(EDGE, 1 - EDGE)
        log_b = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta)
        return ((alpha - 1) * x.log() + (beta - 1) * torch.log1p(-x) - log_b).to(value)


class ContinuousBernoulli(Distribution):
    r"""Independent pixels in [0, 1]: the density whose normaliser a binary cross-entropy on grey values omits.

    .. math:: p(x) = C(l)\, \sigma(l)^x\, \sigma(-l)^{1-x} = \frac{l\,e^{l x}}{e^l - 1}

    Loaiza-Ganem & Cunningham 2019 (https://arxiv.org/abs/1907.06845). torch's own is parameterised by probabilities
    and clamps them, which changes the density of a dark pixel; this one has logits and is exact for every l.

    Args:
        logits: l, of shape (*batch, *event).
        event: number of event dimensions.
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.unit_interval

    def __init__(self, logits: Tensor, event: int = 1) -> None:
        self.logits = logits
        split = logits.dim() - event
        super().__init__(logits.shape[:split], logits.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return tilted_mean(self.logits)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """The inverse distribution function at |l|, log(1 + v (e^|l| − 1))/|l|, mirrored where l < 0."""
        with torch.no_grad():
            v, size = uniform(self._extended_shape(torch.Size(sample_shape)), self.logits), self.logits.abs()
            safe = size.clamp(min=1e-3)
            x = 1 + torch.log(v + (1 - v) * (-safe).exp()) / safe
            x = torch.where(size < 1e-3, v, x).clamp(0, 1)  # uniform to 1e-4
            return torch.where(self.logits < 0, 1 - x, x)

    def log_prob(self, value: Tensor) -> Tensor:
        """l (x − 1/2) − log(sinh(l/2) / (l/2)): the constant is even in l, and 0 at l = 0."""
        half = self.logits.abs() / 2
        far = half.clamp(min=0.1)
        log_sinhc = far + torch.log1p(-(-2 * far).exp()) - torch.log(2 * far)
        near = half.clamp(max=0.1).square()  # within 1e-11 of it below 0.1
        series = near * (1 / 6 - near * (1 / 180 - near * (1 / 2835 - near / 37800)))
        density = self.logits * (value - 0.5) - torch.where(half < 0.1, series, log_sinhc)
        return density.flatten(-len(self.event_shape)).sum(-1)


def tilted_mean(logits: Tensor) -> Tensor:
    """Mean of the density l e^{lx} / (e^l − 1) on [0, 1], 1/2 + (coth u − 1/u)/2 with u = l/2; any shape."""
    u = logits / 2
    near = u.clamp(-0.1, 0.1)
    far = torch.where(u.abs() < 0.1, torch.ones_like(u), u)
    series = near / 3 - near**3 / 45 + 2 * near**5 / 945
    return 0.5 + torch.where(u.abs() < 0.1, series, 1 / torch.tanh(far) - 1 / far) / 2


class TruncatedNormal(Distribution):
    r"""N(μ, σ²) given that it lies in [0, 1]; pixels are independent.

    .. math:: p(x) = \frac{N(x; \mu, \sigma^2)}{\Phi((1 - \mu)/\sigma) - \Phi(-\mu/\sigma)}

    Computed in float64, because of cancellation for wide densities and small masses far from μ.

    Args:
        loc: μ, any real number, of shape (*batch, *event); the mean only if both ends are far.
        scale: σ > 0, broadcastable to loc.
        event: number of event dimensions.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.unit_interval

    def __init__(self, loc: Tensor, scale: Tensor, event: int = 1) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        split = self.loc.dim() - event
        super().__init__(self.loc.shape[:split], self.loc.shape[split:], validate_args=False)

    def _ends(self) -> tuple[Tensor, Tensor, Tensor]:
        """Both ends in units of σ, and whether they were mirrored so that the end nearer to μ is not far above it."""
        loc, scale = self.loc.double(), self.scale.double()
        low, high = -loc / scale, (1 - loc) / scale
        mirrored = low > 0
        return torch.where(mirrored, -high, low), torch.where(mirrored, -low, high), mirrored

    def _log_mass(self) -> Tensor:
        """log of the mass that the untruncated density has in [0, 1], plus b²/2 where the upper end b is below 0."""
        low, high, _ = self._ends()
        log_ratio = (log_ndtr(low) - log_ndtr(high)).clamp(max=-torch.finfo(low.dtype).tiny)
        return _log_ndtr_scaled(high) + torch.log(-torch.expm1(log_ratio))

    @property
    def mean(self) -> Tensor:
        """μ + σ² (p(0) − p(1))."""
        ends = (torch.zeros_like(self.loc), torch.ones_like(self.loc))
        low, high = (self._log_density(end).exp() for end in ends)
        return (self.loc + self.scale.double().square() * (low - high)).clamp(0, 1).to(self.loc)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """The inverse distribution function at a uniform draw, in double precision."""
        with torch.no_grad():
            low, high, mirrored = self._ends()
            u = uniform(self._extended_shape(torch.Size(sample_shape)), low)
            log_low, log_high = log_ndtr(low), log_ndtr(high)
            log_p = log_high + torch.log(u + (1 - u) * (log_low - log_high).exp())
            t = _log_ndtri(log_p).clamp(low, high)
            return (self.loc + self.scale * torch.where(mirrored, -t, t)).clamp(0, 1).to(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_density(value).flatten(-len(self.event_shape)).sum(-1).to(value)

    def _log_density(self, value: Tensor) -> Tensor:
        """The log-density of each pixel; where both ends lie on one side of μ, relative to the nearer one, to avoid
        cancellation of large squares."""
        _, high, mirrored = self._ends()
        value, loc, scale = value.double(), self.loc.double(), self.scale.double()
        gap = torch.where(mirrored, value, 1 - value) / scale
        square = torch.where(high < 0, gap * high - gap.square() / 2, -((value - loc) / scale).square() / 2)
        return square - scale.log() - 0.5 * math.log(2 * math.pi) - self._log_mass()


def log_ndtr(x: Tensor) -> Tensor:
    """log Φ(x), exact in both tails; torch's own has no rule for vmap."""
    return _log_ndtr_scaled(x) - x.clamp(max=0).square() / 2


def _log_ndtr_scaled(x: Tensor) -> Tensor:
    """log Φ(x), plus x²/2 where x is below 0."""
    t = x / math.sqrt(2)
    return torch.where(x < 0, torch.log(erfcx(-t.clamp(max=0)) / 2), torch.log1p(-erfc(t.clamp(min=0)) / 2))


def _log_ndtri(log_p: Tensor) -> Tensor:
    """Φ⁻¹(e^log_p): torch's own unless e^log_p underflows, then Newton steps on log Φ from the tail's asymptote."""
    near = ndtri(log_p.clamp(min=-600).exp())
    far = -(-2 * log_p.clamp(max=-300)).sqrt()
    for _ in range(6):
        log_phi, log_density = log_ndtr(far), -far.square() / 2 - 0.5 * math.log(2 * math.pi)
        far = far - (log_phi - log_p.clamp(max=-300)) * (log_phi - log_density).exp()
    return torch.where(log_p < -500, far, near)


def solved(mean_of: Callable[[Tensor], Tensor], mean: Tensor, low: float, high: float) -> Tensor:
    """The parameter in [low, high] at which a distribution has a mean, by bisection: `mean_of` rises in it.

    Args:
        mean_of: from parameters to means, of the shape of `mean`.
        mean: wanted means, any shape; means out of reach give the nearer end.
    """
    bottom, top = (torch.full_like(mean, end, dtype=torch.float64) for end in (low, high))
    for _ in range(60):
        middle = (bottom + top) / 2
        below = mean_of(middle) < mean
        bottom, top = torch.where(below, middle, bottom), torch.where(below, top, middle)
    return ((bottom + top) / 2).to(mean)
