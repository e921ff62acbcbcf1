"""Likelihoods p(x|z): modules that map latents to a distribution over images.

Each declares the measures for which it is a density or a mass function. Its output bias is initialised so that p(x|z)
has the training mean; without this, training may not get beyond the marginal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from zuko.lazy import LazyDistribution

from vaebench import distributions
from vaebench.distributions import pixelwise as pixels
from vaebench.errors import UserError
from vaebench.functional.ssim import WINDOW, most_scales
from vaebench.measures import BINARY, CONTINUOUS, DISCRETE, DataSpec, Shape
from vaebench.networks import MLP, Biased, Network
from vaebench.networks.unregistered import Shared
from vaebench.traits import LikelihoodTraits, PriorTraits

Scale = Literal["fixed", "learned", "pixel", "decoder"]


class Likelihood(LikelihoodTraits, LazyDistribution):
    """z (*batch, *latent) -> p(x|z) over images of data.shape, with declared traits."""

    def start(self, net: nn.Module, mean: Tensor | None, inverse: Callable[[Tensor], Tensor]) -> None:
        """Initialises the output bias of `net` to inverse(mean), in place; does nothing if mean is None."""
        if mean is None:
            return
        if not isinstance(net, Biased):
            raise UserError(
                f"{type(net).__name__} has no 'output_bias' to start at the data's mean; give it one, or set "
                "likelihood.start_at_mean to false"
            )
        with torch.no_grad():
            values = inverse(mean.to(net.output_bias)).flatten()
            net.output_bias[: values.numel()] = values
        self.started = True


class Bernoulli(Likelihood):
    """p(x|z) = Π_d Bernoulli(x_d; σ(l_d(z))), for binary images.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        net: builds the network from latents to logits.
        start_at_mean: start the output bias at the logits of the training mean, clamped to [1e-3, 1 − 1e-3].
    """

    support = frozenset({BINARY})

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        net: Callable[[Shape, Shape], Network] = MLP,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__()
        self.event = len(data.shape)
        self.net = net(latent, data.shape)
        if start_at_mean:
            self.start(self.net, data.mean, lambda m: torch.logit(m, 1e-3))

    def forward(self, c: Tensor | None = None) -> Distribution:
        return distributions.Bernoulli(self.net(c), self.event)


class LocationScale(Likelihood):
    """A location from the network, and a scale that is fixed, learned, or also from the network.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        net: builds the network from latents to locations (and log-scales).
        scale: 'fixed' at `initial`, 'learned' (one for all pixels), 'pixel' (learned per pixel, for all z), or
            'decoder' (per pixel, from z).
        initial: initial scale, above `floor`, in units of x ∈ [0, 1].
        floor: lower bound of the scale, which bounds the density; kept in the record.
        start_at_mean: initialise the locations at the training mean.

    Raises:
        UserError: `initial` does not exceed `floor`, or `floor` is negative.
    """

    log_excess: Tensor

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        net: Callable[[Shape, Shape], Network] = MLP,
        scale: Scale = "learned",
        initial: float = 0.1,
        floor: float = 1e-3,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= floor < initial:
            raise UserError(
                f"{type(self).__name__} starts at scale {initial} with floor {floor}: expected 0 ≤ floor < initial; "
                "raise likelihood.initial or lower likelihood.floor"
            )
        self.shape, self.levels, self.scale, self.floor = data.shape, data.levels, scale, floor
        self.facts = {"scale": scale, "scale_floor": floor}
        channels, *size = data.shape
        self.net = net(latent, (2 * channels if scale == "decoder" else channels, *size))
        start = torch.tensor(math.log(initial - floor))
        if scale == "decoder":
            with torch.no_grad():
                self.net.output_bias[prod(data.shape) :] = start
        elif scale in ("learned", "pixel"):
            self.log_excess = nn.Parameter(start if scale == "learned" else start.expand(data.shape).clone())
        else:
            self.register_buffer("log_excess", start)
        if start_at_mean:
            self.start(self.net, data.mean, lambda m: self.location(m, initial))

    def location(self, mean: Tensor, scale: float) -> Tensor:
        """The initial location, at which the distribution with this scale has the mean (*data)."""
        return mean

    def location_scale(self, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """Location and scale at z: (*batch, *data) each; the scale may also be 0-dim or (*data)."""
        out = self.net(z)
        if self.scale == "decoder":
            loc, log_excess = out.chunk(2, -len(self.shape))
        else:
            loc, log_excess = out, self.log_excess
        return loc, self.floor + log_excess.exp()


class Gaussian(LocationScale):
    """p(x|z) = N(x; μ(z), σ²), a density with respect to Lebesgue measure; see `LocationScale`."""

    support = frozenset({CONTINUOUS})

    def forward(self, c: Tensor | None = None) -> Distribution:
        loc, scale = torch.broadcast_tensors(*self.location_scale(c))
        return distributions.DiagonalNormal(loc, scale, event=len(self.shape))


class LogCosh(LocationScale):
    """p(x|z) ∝ cosh((x − μ(z))/s)^−ν: the density of a log-cosh loss; see `LocationScale`.

    The loss (1/a) Σ_d log cosh(a (x_d − μ_d)) of Chen et al. 2019 (https://openreview.net/forum?id=rkglvsC9Ym) is
    s = 1/a and ν = 1/a with a fixed scale, up to a constant. A normalised likelihood for continuous images.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        exponent: ν > 0; 1 is the hyperbolic secant, large values (with s² = ν σ²) approach a Gaussian.
        parts: net, scale, initial, floor, start_at_mean; see `LocationScale`.

    Raises:
        UserError: the exponent is not positive.
    """

    support = frozenset({CONTINUOUS})

    def __init__(self, latent: Shape, data: DataSpec, exponent: float = 1.0, **parts: Any) -> None:
        super().__init__(latent, data, **parts)
        if not exponent > 0:
            raise UserError(f"LogCosh has exponent {exponent}: expected a positive one; raise likelihood.exponent")
        self.exponent = exponent

    def forward(self, c: Tensor | None = None) -> Distribution:
        loc, scale = self.location_scale(c)
        return pixels.HyperbolicSecant(loc, scale, self.exponent, event=len(self.shape))


class DiscretisedLogistic(LocationScale):
    """p(x|z): a logistic density integrated over the bin of each level, for images of N levels; see `LocationScale`.

    Kingma et al. 2016 (https://arxiv.org/abs/1606.04934).
    """

    support = frozenset({DISCRETE, BINARY})

    def forward(self, c: Tensor | None = None) -> Distribution:
        loc, scale = self.location_scale(c)
        return distributions.DiscretisedLogistic(loc, scale, self.levels or 256, event=len(self.shape))


class StructuralSimilarity(Likelihood):
    """−w (1 − MS-SSIM(x, x̂(z))) in place of log p(x|z): a surrogate for every measure (`model.surrogate`).

    Wang, Simoncelli & Bovik 2003 (https://doi.org/10.1109/ACSSC.2003.1292216), as a training loss Snell et al. 2017
    (https://arxiv.org/abs/1511.06409). It is invariant to a constant factor in flat regions of an image.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images, (c, h, w).
        net: builds the network from latents to the logits of x̂.
        weight: w, nats per image; None for the number of values, so that each costs at most 1 (our choice).
        scales: at most 5; None for as many as fit the window of 11 pixels: 2 at 28 × 28, 3 at 64 × 64.
        start_at_mean: start the output bias at the logits of the training mean, clamped to [1e-3, 1 − 1e-3].

    Raises:
        UserError: the window exceeds the image at the coarsest scale.
    """

    support = frozenset()

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        net: Callable[[Shape, Shape], Network] = MLP,
        weight: float | None = None,
        scales: int | None = None,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__()
        height, width = data.shape[-2:]
        most = most_scales(height, width)
        if not 1 <= (scales or most) <= most:
            raise UserError(
                f"StructuralSimilarity has a window of {WINDOW} pixels, which fits into images of {height} × {width} "
                f"at {most} scales, not at {scales or 'any'}; "
                + ("lower likelihood.scales" if most else "take larger images or another likelihood")
            )
        self.scales = scales or most
        self.weight = float(data.dimensions) if weight is None else weight
        self.net = net(latent, data.shape)
        if start_at_mean:
            self.start(self.net, data.mean, lambda m: torch.logit(m, 1e-3))

    def forward(self, c: Tensor | None = None) -> Distribution:
        return pixels.Similarity(torch.sigmoid(self.net(c)), self.weight, self.scales)


class Through(Shared[PriorTraits]):
    """A forward pre-hook that replaces z by the prior's view of it (`PriorTraits.see`)."""

    def __call__(self, likelihood: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (self.module.see(*inputs),)


def generative(
    prior: nn.Module, factory: Callable[[Shape, DataSpec], Likelihood], latent: Shape, data: DataSpec
) -> Likelihood:
    """The likelihood for a prior: of the whole latent, or of the prior's view of it (`PriorTraits.see`).

    Args:
        prior: -> p(z).
        factory: builds p(x|z) from the shape of its input and the data.
        latent: shape of a latent.
        data: shape, measure and mean of the images.
    """
    shown = PriorTraits.of(prior)
    if shown.seen is None:
        return factory(latent, data)
    likelihood = factory(shown.seen, data)
    likelihood.register_forward_pre_hook(Through(shown))
    return likelihood


def natural(data: DataSpec) -> type[Likelihood]:
    """The default likelihood of a measure: Bernoulli, Gaussian or discretised logistic."""
    return {BINARY: Bernoulli, CONTINUOUS: Gaussian, DISCRETE: DiscretisedLogistic}[data.kind]


def is_surrogate(likelihood: nn.Module, data: DataSpec, allowed: bool) -> bool:
    """Whether a likelihood is not normalised for the data's measure.

    Raises:
        UserError: it is a surrogate, and `allowed` is false.
    """
    support = LikelihoodTraits.of(likelihood).support
    if data.kind in support:
        return False
    if allowed:
        return True
    raise UserError(
        f"{type(likelihood).__name__} is no likelihood for '{data.measure}' images (it supports "
        f"{', '.join(sorted(support)) or 'none'}); choose {natural(data).__name__}, change data.measure, or set "
        "model.surrogate to true to train it as a flagged surrogate"
    )
