"""Flows from the tangent space to the Poincaré ball {‖z‖ < 1} of curvature −1; densities are against Lebesgue measure.

A tangent vector of length r maps to a distance of 2 e^{−2r} from the edge: from r = 4 on, float32 is too coarse for
accurate estimates. So parts on the ball use float64.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench.distributions.flow import FlowStep

FARTHEST = 12.0  # tangent length, half the distance from the centre, with a relative error of 1e-6 in float64


class Exponential(FlowStep):
    """f(v) = tanh(‖v‖) v/‖v‖: the exponential map at the centre, from the tangent space onto the ball.

    log det = −2 log cosh ‖v‖ + (n − 1) log(tanh(‖v‖)/‖v‖).
    """

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r = x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        shrink = torch.tanh(r) / r
        log_cosh = r + F.softplus(-2 * r) - math.log(2)
        return x * shrink, (shrink.log() * (x.shape[-1] - 1) - 2 * log_cosh).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        rho = y.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return y / rho * torch.atanh(rho.clamp(max=1 - torch.finfo(y.dtype).eps))


class Translation(FlowStep):
    r"""f(z) = μ ⊕ z, Möbius addition: the isometry of the ball that takes its centre to μ.

    .. math:: \mu \oplus z = \frac{(1 + 2\langle\mu, z\rangle + \|z\|^2)\,\mu + (1 - \|\mu\|^2)\,z}
                                  {1 + 2\langle\mu, z\rangle + \|\mu\|^2 \|z\|^2}

    It is conformal, so that log det = n log((1 − ‖μ‖²)/(1 + 2⟨μ, z⟩ + ‖μ‖²‖z‖²)).

    Args:
        centre: μ, (*batch, n), in the ball.
    """

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.centre = centre

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """With denominator ‖ ‖z‖ μ + z/‖z‖ ‖² and f = μ + (1 − ‖μ‖²)(‖z‖² μ + z)/denominator, for less cancellation."""
        own, other = self.centre.square().sum(-1, keepdim=True), x.square().sum(-1, keepdim=True)
        r = x.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        plain = 1 + 2 * (self.centre * x).sum(-1, keepdim=True) + own * other
        below = torch.where(other < 1e-6, plain, (r * self.centre + x / r).square().sum(-1, keepdim=True))
        ladj = x.shape[-1] * (torch.log1p(-own) - below.log())
        return self.centre + (1 - own) * (other * self.centre + x) / below, ladj.squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return Translation(-self.centre).call_and_ladj(y)[0]
