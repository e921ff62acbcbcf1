"""Images of N levels with categorical pixels, or mixtures of logistics that couple the channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import LEVELS, SampleShape, log_bin, uniform

__all__ = ["Levels", "LogisticMixture"]


class Levels(Distribution):
    """Independent pixels, each with a probability of its own for every one of N levels.

    van den Oord, Kalchbrenner & Kavukcuoglu 2016 (https://arxiv.org/abs/1601.06759), section 3.4.

    Args:
        logits: unnormalised log-probabilities, (*batch, c, N, h, w); level j stands for the value j / (N − 1).
    """

    arg_constraints = {"logits": constraints.real}
    support = LEVELS

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        *batch, c, self.levels, h, w = logits.shape
        super().__init__(torch.Size(batch), torch.Size((c, h, w)), validate_args=False)

    @property
    def mean(self) -> Tensor:
        values = torch.linspace(0, 1, self.levels, dtype=self.logits.dtype, device=self.logits.device)
        return (self.logits.softmax(-3) * values[:, None, None]).sum(-3)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.logits.shape
            gumbel = -(-uniform(shape, self.logits).log()).log()
            return (self.logits + gumbel).argmax(-3).to(self.logits) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        level = (value * (self.levels - 1)).round().long().unsqueeze(-3)
        shape = torch.broadcast_shapes(level.shape, (*self.logits.shape[:-3], 1, *self.logits.shape[-2:]))
        logits = self.logits.expand(*shape[:-3], *self.logits.shape[-3:])
        chosen = logits.gather(-3, level.expand(shape)) - logits.logsumexp(-3, keepdim=True)
        return chosen.flatten(-4).sum(-1)


class LogisticMixture(Distribution):
    r"""A mixture of K discretised logistics for all channels of a pixel together; pixels are independent.

    .. math:: P(x) = \sum_k \pi_k \prod_c P_{logistic}(x_c;\; \mu_{kc}(x_{<c}),\, s_{kc}), \qquad
              \mu_{kc}(x_{<c}) = m_{kc} + \sum_{d<c} a_{kcd}\,(2 x_d - 1)/2

    with the bins of `DiscretisedLogistic`: green depends on red, and blue on both. P sums to one over all N^c values of
    a pixel; sampling conditions each channel on the sampled levels of earlier ones.

    Salimans et al. 2017 (https://arxiv.org/abs/1701.05517), section 2.1 and 2.2.

    Args:
        logits: of π, (*batch, K, h, w).
        loc: m, (*batch, K, c, h, w), in the data's units ([0, 1]).
        scale: s > 0, broadcastable to loc.
        coupling: a, (*batch, K, c (c − 1) / 2, h, w): rows (1, 0), (2, 0), (2, 1), …
        levels: N ≥ 2.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = LEVELS

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, coupling: Tensor, levels: int = 256) -> None:
        self.logits, self.coupling, self.levels = logits, coupling, levels
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape[:-4], self.loc.shape[-3:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The mean of the logistics without discretisation, clamped to the range, as a picture."""
        means = torch.stack(self._locations(lambda _, loc: loc), -3)
        weights = self.logits.softmax(-3).unsqueeze(-3)
        return (weights * means).sum(-4).clamp(0, 1)

    def _locations(self, value: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        """μ of each channel in turn, (…, K, h, w), where `value` maps it to the channel's value."""
        locations: list[Tensor] = []
        known: list[Tensor] = []
        for c in range(self.event_shape[0]):
            first = c * (c - 1) // 2
            pulls = (self.coupling[..., first + d, :, :] * (x - 0.5) for d, x in enumerate(known))
            locations.append(sum(pulls, self.loc[..., c, :, :]))
            known.append(value(c, locations[-1]))
        return locations

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            lead, one = torch.Size(sample_shape), self.loc[..., :1, :, :].squeeze(-3).shape
            gumbel = -(-uniform(lead + one, self.loc).log()).log()
            chosen = (self.logits + gumbel).argmax(-3, keepdim=True)  # (…, 1, h, w)
            drawn: list[Tensor] = []

            def value(c: int, loc: Tensor) -> Tensor:
                u = uniform(chosen.shape, loc)
                mine, scale = (t.expand(lead + one).gather(-3, chosen) for t in (loc, self.scale[..., c, :, :]))
                x = mine + scale * (u.log() - torch.log1p(-u))
                drawn.append((x * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1))
                return drawn[-1]  # (…, 1, h, w)

            self._locations(value)
            return torch.cat(drawn, -3)

    def log_prob(self, value: Tensor) -> Tensor:
        locations = self._locations(lambda c, _: value[..., c : c + 1, :, :])
        bins = (
            log_bin(value[..., c : c + 1, :, :], loc, self.scale[..., c, :, :], self.levels)
            for c, loc in enumerate(locations)
        )
        joint = sum(bins, F.log_softmax(self.logits, -3))  # (…, K, h, w)
        return joint.logsumexp(-3).flatten(-2).sum(-1)
