"""Distributions that sample under vmap and score many samples of one image as matrix products.

None validates its arguments: models are checked when they are built, not at every step.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions import Normal as TorchNormal

from vaebench.distributions.divergences import closed_form, divergence, divergence_units, require_units, stopped, units
from vaebench.errors import Unavailable

__all__ = [
    "LEVELS",
    "Bernoulli",
    "Delta",
    "DiagonalNormal",
    "DiscretisedLogistic",
    "Normal",
    "closed_form",
    "divergence",
    "divergence_units",
    "log_bin",
    "require_units",
    "stopped",
    "uniform",
    "units",
]

SampleShape = torch.Size | list[int] | tuple[int, ...]


class _Levels(constraints.Constraint):
    """Levels j / (N − 1) for some N, in [0, 1]: images with probabilities rather than a density."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0) & (value <= 1)

    def __repr__(self) -> str:
        return "levels in [0, 1]"


LEVELS = _Levels()


class Normal(TorchNormal):
    """N(loc, scale²), whose `rsample` works under `torch.func.vmap(randomness="different")`.

    torch's own fills a tensor in place, which vmap refuses.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, value: Tensor) -> Tensor:
        """−((x − μ)/σ)²/2 − log σ√(2π), in half as many passes over memory as torch's own."""
        standard = (value - self.loc) / self.scale
        return torch.addcmul(-self.scale.log() - 0.5 * math.log(2 * math.pi), standard, standard, value=-0.5)


def DiagonalNormal(loc: Tensor, scale: Tensor, event: int = 1) -> Independent:  # noqa: N802 - reads as a distribution
    """N(loc, diag(scale²)) over the last `event` dimensions; loc and scale (*batch, *event)."""
    return Independent(Normal(loc, scale), event, validate_args=False)


class Bernoulli(Distribution):
    """Independent Bernoulli pixels: log p(x) = Σ_d x_d l_d − softplus(l_d), the sum over all event dimensions.

    x of shape (b, *event) is scored under logits of shape (k, b, *event); without gradients, by `log_bernoulli`.

    Args:
        logits: l, of shape (*batch, *event).
        event: number of event dimensions.
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.boolean

    def __init__(self, logits: Tensor, event: int = 1) -> None:
        self.logits = logits
        split = logits.dim() - event
        super().__init__(logits.shape[:split], logits.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            return (torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device) < self.mean).to(
                self.logits.dtype
            )

    def log_prob(self, value: Tensor) -> Tensor:
        event = len(self.event_shape)
        logits, value = self.logits.flatten(-event), value.flatten(-event)
        if torch.is_grad_enabled():  # few samples per image; torch's own cross-entropy is slow under vmap
            return torch.addcmul(F.logsigmoid(logits), value - 1, logits).sum(-1)
        return log_bernoulli(logits, value)


def log_bernoulli(logits: Tensor, value: Tensor) -> Tensor:
    """Σ_d x_d l_d − softplus(l_d), for scoring: without cancellation, and with few logarithms.

    With softplus(l) = max(l, 0) − log σ(|l|) it is Σ log σ(|l|) − Σ (max(l, 0) − x l), where for x in [0, 1] all terms
    of a sum have one sign, and the logarithm is taken of the product of 16 pixels, each in [1/2, 1].

    Args:
        logits: l, (*batch, d), of any floating type; half precision is scored in the type of `value`.
        value: x in [0, 1], broadcastable to logits.
    """
    logits = logits.to(torch.promote_types(logits.dtype, value.dtype))
    wrong = torch.addcmul(logits.clamp(min=0), logits, value.to(logits.dtype), value=-1).sum(-1)
    right = logits.abs().sigmoid_()
    whole = right.shape[-1] // 16
    products = right[..., : 16 * whole].unflatten(-1, (16, whole)).prod(-2)
    return products.log().sum(-1) + right[..., 16 * whole :].log().sum(-1) - wrong


class DiscretisedLogistic(Distribution):
    """A logistic density integrated over the bin of each of N levels, with closed edges; pixels are independent.

    With levels at j/(N−1), half a bin h = 1/(2(N−1)) and σ the logistic function,

        P(x) = σ((x + h − μ)/s) − σ((x − h − μ)/s),

    where the lowest level takes all mass below it and the highest all above: Σ_x P(x) = 1 exactly. (Kingma et al. 2016,
    https://arxiv.org/abs/1606.04934, appendix; Salimans et al. 2017, https://arxiv.org/abs/1701.05517.)

    Args:
        loc: μ, of shape (*batch, *event), in the data's units ([0, 1]).
        scale: s > 0, broadcastable to loc.
        levels: N ≥ 2.
        event: number of event dimensions.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = LEVELS

    def __init__(self, loc: Tensor, scale: Tensor, levels: int = 256, event: int = 1) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        split = self.loc.dim() - event
        super().__init__(self.loc.shape[:split], self.loc.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The location, clamped to the range of the data: the picture of a reconstruction."""
        return self.loc.clamp(0, 1)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            u = uniform(shape, self.loc)
            x = self.loc + self.scale * (u.log() - torch.log1p(-u))
            return (x * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        log_mass = log_bin(value, self.loc, self.scale, self.levels)
        return log_mass.flatten(-len(self.event_shape)).sum(-1)


def log_bin(value: Tensor, loc: Tensor, scale: Tensor, levels: int) -> Tensor:
    """The log-mass that a logistic density has in the bin of a level, with closed edges; see `DiscretisedLogistic`.

    Args:
        value: levels j/(N−1), broadcastable to loc.
        loc: μ.
        scale: s > 0, broadcastable to loc.
        levels: N ≥ 2.
    """
    half = 0.5 / (levels - 1)
    upper = (value + half - loc) / scale
    lower = (value - half - loc) / scale
    # log(σ(u) − σ(l)) = log σ(u) + log σ(−l) + log(1 − e^{l−u}), exact in both tails
    width = (2 * half) / scale
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)  # torch's softplus is linear, not exact, above 20
    inside = below + above + torch.log(-torch.expm1(-width))
    return torch.where(value < half, below, torch.where(value > 1 - half, above, inside))


def uniform(shape: torch.Size, like: Tensor) -> Tensor:
    """Draws from the open interval U(0, 1), with the type and device of `like`."""
    u = torch.rand(shape, dtype=like.dtype, device=like.device)
    return u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)


class Delta(Distribution):
    """A point mass, the posterior of a deterministic encoder, with samples and a mean but no density.

    Args:
        point: (*batch, *event).
        event: number of event dimensions.
    """

    arg_constraints = {"point": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(self, point: Tensor, event: int = 1) -> None:
        self.point = point
        split = point.dim() - event
        super().__init__(point.shape[:split], point.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.point

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        return self.point.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        raise Unavailable("the encoder is deterministic: q(z|x) has no density, so there is no bound on log p(x)")
