"""A mixture of Gaussians as posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import Literal, final

import torch
from torch import Tensor

from vaebench.distributions.mixture import GaussianMixture
from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.posteriors import Posterior


@final
class MixtureOfGaussians(Posterior):
    r"""q(z|x) = Σ_c π_c(x) N(z; μ_c(x), diag σ_c(x)²), with stratified samples.

    With equal weights, 1/C, the component of a sample does not depend on the network, so that pathwise gradients are
    unbiased; objectives that need independent samples of an image refuse the mixture. Learned weights need a bound that
    is summed over the components, as in `vaebench.families.stratified_vae`; other families refuse them.

    Reference:
        Morningstar et al. 2021 (https://arxiv.org/abs/2003.01687).

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        components: C ≥ 1.
        weights: 'equal', or 'learned' as an output of the network for each image.
        net: builds the network from the two shapes.

    Raises:
        UserError: no component.
    """

    ALSO = ("MoG",)

    def __init__(
        self,
        data: Shape,
        latent: Shape,
        components: int = 4,
        weights: Literal["equal", "learned"] = "equal",
        net: Callable[[Shape, Shape], Network] = MLP,
    ) -> None:
        super().__init__()
        if components < 1:
            raise UserError(
                f"MixtureOfGaussians has {components} components: expected at least 1; raise posterior.components"
            )
        self.shape, self.learned = (components, prod(latent)), weights == "learned"
        self.reparameterised, self.dependent = not self.learned, components > 1
        self.net = net(data, (2 * prod(self.shape) + (components if self.learned else 0),))

    def forward(self, c: Tensor | None = None) -> GaussianMixture:
        out = self.net(c)
        size = prod(self.shape)
        loc, log_scale, logits = out[..., :size], out[..., size : 2 * size], out[..., 2 * size :]
        equal = torch.full_like(loc[..., : self.shape[0]], -math.log(self.shape[0]))
        return GaussianMixture(
            loc.unflatten(-1, self.shape),
            log_scale.unflatten(-1, self.shape).exp(),
            torch.log_softmax(logits, -1) if self.learned else equal,
        )
