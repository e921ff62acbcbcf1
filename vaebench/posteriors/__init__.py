"""Posteriors q(z|x): modules that map images to a distribution over latents.

A posterior is built from the shapes of an image and of a latent, `Posterior = Callable[[Shape, Shape], Conditional]`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from torch import Tensor
from torch.distributions import Independent
from zuko.lazy import LazyDistribution

from vaebench.distributions import Delta as PointMass
from vaebench.distributions import DiagonalNormal
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.traits import PosteriorTraits


class Posterior(PosteriorTraits, LazyDistribution):
    """x (b, *data) -> q(z|x), with what it declares of itself."""


class DiagonalGaussian(Posterior):
    """q(z|x) = N(μ(x), diag σ(x)²), with μ and log σ the two halves of one network's output.

    Kingma & Welling 2014, appendix C.2 (https://arxiv.org/abs/1312.6114).

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        net: builds the network from the two shapes.
    """

    def __init__(self, data: Shape, latent: Shape, net: Callable[[Shape, Shape], Network] = MLP) -> None:
        super().__init__()
        self.net = net(data, (2 * prod(latent),))

    def forward(self, c: Tensor | None = None) -> Independent:
        loc, log_scale = self.net(c).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())


class Delta(Posterior):
    """q(z|x) with all mass on μ(x), a network's output: a deterministic encoder, for objectives that need no density.

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        net: builds the network from the two shapes.
    """

    deterministic = True

    def __init__(self, data: Shape, latent: Shape, net: Callable[[Shape, Shape], Network] = MLP) -> None:
        super().__init__()
        self.net = net(data, latent)

    def forward(self, c: Tensor | None = None) -> PointMass:
        return PointMass(self.net(c))
