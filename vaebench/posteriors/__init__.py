"""Posteriors q(z|x): modules that map images to a distribution over latents.

A posterior is built from the shapes of an image and of a latent, `Posterior = Callable[[Shape, Shape], Conditional]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import ClassVar

from torch import Tensor
from torch.distributions import Independent
from zuko.lazy import LazyDistribution

from vaebench.distributions import Delta as PointMass
from vaebench.distributions import DiagonalNormal
from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.ranges import ANY, Range, require_ranges
from vaebench.traits import PosteriorTraits


class Posterior(PosteriorTraits, LazyDistribution):
    """x (b, *data) -> q(z|x), with declared traits."""


class DiagonalGaussian(Posterior):
    """q(z|x) = N(μ(x), diag σ(x)²), where μ and log σ are the halves of one network's output.

    Kingma & Welling 2014, appendix C.2 (https://arxiv.org/abs/1312.6114).

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        net: builds the network from the two shapes.
        least, most: bounds to which log σ is clamped, without gradients outside; None for no bound. VampPriors often
            use −3 and 1.

    Raises:
        UserError: the least log σ is not below the most.
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"least": ANY, "most": ANY}

    def __init__(
        self,
        data: Shape,
        latent: Shape,
        net: Callable[[Shape, Shape], Network] = MLP,
        least: float | None = None,
        most: float | None = None,
    ) -> None:
        super().__init__()
        require_ranges(DiagonalGaussian, {"least": least, "most": most}, "posterior.")
        if least is not None and most is not None and least >= most:
            raise UserError(
                f"DiagonalGaussian cuts log σ off at least {least} and most {most}: expected least < most; raise "
                "posterior.most"
            )
        self.net, self.limits = net(data, (2 * prod(latent),)), (least, most)

    def forward(self, c: Tensor | None = None) -> Independent:
        loc, log_scale = self.net(c).chunk(2, -1)
        if self.limits != (None, None):
            log_scale = log_scale.clamp(*self.limits)
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
