"""A posterior on the unit sphere."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import final

import torch.nn.functional as F
from torch import Tensor

from vaebench.distributions import spherical
from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.posteriors import Posterior


@final
class VonMisesFisher(Posterior):
    r"""q(z|x) = C_n(κ(x)) exp(κ(x) μ(x)ᵀz) on the sphere S^{n−1}, with ‖μ‖ = 1 and κ = 1 + softplus(·).

    Use it with a prior on the sphere, such as `priors.spherical.SphericalUniform`. κ is at most 1,000.

    Reference:
        Davidson et al. 2018 (https://arxiv.org/abs/1804.00891).

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,), n ≥ 3.
        net: builds the network from the two shapes.

    Raises:
        UserError: the latent has fewer than three dimensions.
    """

    ALSO = ("vMF",)

    space = "the unit sphere"

    def __init__(self, data: Shape, latent: Shape, net: Callable[[Shape, Shape], Network] = MLP) -> None:
        super().__init__()
        if prod(latent) < 3:
            raise UserError(f"VonMisesFisher has {prod(latent)} latents: expected at least 3; raise model.latent")
        self.net = net(data, (prod(latent) + 1,))

    def forward(self, c: Tensor | None = None) -> spherical.VonMisesFisher:
        out = self.net(c)
        return spherical.VonMisesFisher(
            F.normalize(out[..., :-1], dim=-1), (1 + F.softplus(out[..., -1])).clamp(max=spherical.MOST)
        )
