"""Flow densities over images in [0, 1], with uniform dequantisation for images of N levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import LEVELS, SampleShape

__all__ = ["FlowDensity"]


class FlowDensity(Distribution):
    r"""y = μ + s ⊙ ε with ε from a flow: a density over [0, 1]^D and beyond, or a bound on P(x) of images of N levels.

    .. math:: P(x) = \int_{[0,1)^D} p\Big(\frac{(N-1)\,x + u}{N}\Big) \frac{du}{N^D}, \qquad
              \log p\Big(\frac{(N-1)\,x + u}{N}\Big) - D \log N, \quad u \sim U[0, 1)^D

    For levels `log_prob` is the second term, one draw of uniform dequantisation. Its exponential has the mean P(x), so
    that its mean is at most log P(x), and importance-weighted bounds stay bounds.

    Uria, Murray & Larochelle 2013 (https://arxiv.org/abs/1306.0186); the bound: Theis et al. 2016
    (https://arxiv.org/abs/1511.01844), section 3.1.

    Args:
        loc: μ, (*batch, *event).
        scale: s > 0, broadcastable to loc.
        flow: a distribution over (D,), of the same batch.
        levels: N; None for continuous images.
        event: number of event dimensions.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support: constraints.Constraint = constraints.real

    def __init__(self, loc: Tensor, scale: Tensor, flow: Distribution, levels: int | None, event: int) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.flow, self.levels = flow, levels
        if levels is not None:
            self.support = LEVELS
        split = self.loc.dim() - event
        super().__init__(self.loc.shape[:split], self.loc.shape[split:], validate_args=False)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """Samples; levels are floors of y, with values outside [0, 1] clamped, which scoring does not count."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            noise = self.flow.sample(shape)
            y = self.loc + self.scale * noise.view(self._extended_shape(shape))
            if self.levels is None:
                return y
            return (y * self.levels).floor().clamp(0, self.levels - 1) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        event, volume = len(self.event_shape), 0.0
        if self.levels is not None:
            value = value.expand(torch.broadcast_shapes(value.shape, self.loc.shape))  # a draw for each score
            value = (value * (self.levels - 1) + torch.rand_like(value)) / self.levels
            volume = -self.event_shape.numel() * math.log(self.levels)
        noise = ((value - self.loc) / self.scale).flatten(-event)
        return self.flow.log_prob(noise) - self.scale.log().flatten(-event).sum(-1) + volume
