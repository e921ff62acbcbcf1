"""The Poincaré ball {‖z‖ < 1} of curvature −1 as flows from its tangent space; densities against Lebesgue's measure."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench.distributions.flow import Step

EDGE = 1e-6  # distance from the ball's edge below which a point is taken to lie at it


class Exponential(Step):
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
        return y / rho * torch.atanh(rho.clamp(max=1 - EDGE))


class Translation(Step):
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
        inner = 2 * (self.centre * x).sum(-1, keepdim=True)
        own, other = self.centre.square().sum(-1, keepdim=True), x.square().sum(-1, keepdim=True)
        below = 1 + inner + own * other
        ladj = x.shape[-1] * (torch.log1p(-own) - below.log())
        return ((1 + inner + other) * self.centre + (1 - own) * x) / below, ladj.squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return Translation(-self.centre).call_and_ladj(y)[0]
