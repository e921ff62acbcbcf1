"""A posterior on the Poincaré ball."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import final

import torch
from torch import Tensor

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.flow import Flow
from vaebench.distributions.hyperbolic import FARTHEST, Exponential, Translation
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.posteriors import Posterior


@final
class WrappedNormal(Posterior):
    r"""z = μ(x) ⊕ exp_0(v), v ~ N(0, diag σ(x)²): a Gaussian of the tangent space, wrapped onto the ball around μ(x).

    Equal to exp_μ of v transported to μ. The network outputs log σ and the tangent vector of μ at 0. Use it with a
    prior on the ball, `priors.hyperbolic.WrappedNormal`. Densities are with respect to Lebesgue measure; the bound is
    the same for any base measure. Samples are float64, and the tangent vector of μ has a norm of at most 12, near the
    limit of float64's resolution.

    Reference:
        Nagano et al. 2019 (https://arxiv.org/abs/1902.02992) and Mathieu et al. 2019
        (https://arxiv.org/abs/1901.06033), with curvature −1.

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        net: builds the network from the two shapes.
    """

    space = "the Poincaré ball"

    def __init__(self, data: Shape, latent: Shape, net: Callable[[Shape, Shape], Network] = MLP) -> None:
        super().__init__()
        self.net = net(data, (2 * prod(latent),))

    def forward(self, c: Tensor | None = None) -> Flow:
        tangent, log_scale = self.net(c).double().chunk(2, -1)
        tangent = tangent * (FARTHEST / tangent.norm(dim=-1, keepdim=True).clamp(min=FARTHEST))
        to_ball = Exponential()
        steps = [to_ball, Translation(to_ball(tangent))]
        return Flow(DiagonalNormal(torch.zeros_like(tangent), log_scale.exp()), steps)
