"""Likelihoods of images of N levels beyond a single logistic: categoricals and mixtures of logistics.

`Pixels` maps a network's outputs to distributions of pixels, for decoders with independent pixels and autoregressive
ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench import distributions
from vaebench.distributions import levels
from vaebench.distributions.interval import solved
from vaebench.errors import UserError
from vaebench.likelihoods import Likelihood
from vaebench.measures import BINARY, DISCRETE, DataSpec, Shape
from vaebench.networks import MLP, Network


class Pixels(ABC):
    """A map from a network's outputs at each pixel to a distribution over images, of any height and width.

    Args:
        data: shape and measure of the images.

    Attributes:
        support: kinds of measure for which the distribution is normalised.
        channels: outputs for each pixel.
        facts: kept in records, in addition to the configuration.
    """

    support: ClassVar[frozenset[str]]
    channels: int
    facts: Mapping[str, Any] = {}

    def __init__(self, data: DataSpec) -> None:
        self.data = data

    @abstractmethod
    def distribution(self, outputs: Tensor) -> Distribution:
        """p(x) over images (c, h, w) from outputs (*batch, channels, h, w)."""

    @abstractmethod
    def start(self, mean: Tensor) -> Tensor:
        """Initial outputs (channels, h, w), for which the distribution has the mean (c, h, w)."""


class BernoulliPixels(Pixels):
    """A logit for each value; see `distributions.Bernoulli`."""

    support = frozenset({BINARY})

    def __init__(self, data: DataSpec) -> None:
        super().__init__(data)
        self.channels = data.shape[0]

    def distribution(self, outputs: Tensor) -> Distribution:
        return distributions.Bernoulli(outputs, 3)

    def start(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, 1e-3)


class CategoricalPixels(Pixels):
    """A logit for each level of each value; see `distributions.levels.Levels`.

    The initial probabilities are the maximum-entropy ones with the mean: p_j ∝ e^{aj}.
    """

    support = frozenset({BINARY, DISCRETE})

    def __init__(self, data: DataSpec) -> None:
        super().__init__(data)
        self.levels = data.levels or 256
        self.channels = data.shape[0] * self.levels

    def distribution(self, outputs: Tensor) -> Distribution:
        return levels.Levels(outputs.unflatten(-3, (-1, self.levels)))

    def start(self, mean: Tensor) -> Tensor:
        values = torch.linspace(0, 1, self.levels, dtype=torch.float64)[:, None, None]

        def mean_of(slope: Tensor) -> Tensor:
            return (torch.softmax(slope.unsqueeze(-3) * values, -3) * values).sum(-3)

        slope = solved(mean_of, mean.clamp(1e-3, 1 - 1e-3), -2000.0, 2000.0)
        return (slope.unsqueeze(-3) * (values - 0.5).to(mean)).flatten(0, 1)


class MixturePixels(Pixels):
    """Weights, locations, scales and couplings of K logistics; see `distributions.levels.LogisticMixture`.

    Args:
        data: shape and measure of the images.
        components: K ≥ 1.
        initial: initial scale, above `floor`, in units of x ∈ [0, 1]. The initial components have equal weights and are
            spread over one scale to both sides of the mean.
        floor: lower bound of the scale.

    Raises:
        UserError: K < 1, `initial` does not exceed `floor`, or `floor` is not positive.
    """

    support = frozenset({BINARY, DISCRETE})

    def __init__(self, data: DataSpec, components: int = 5, initial: float = 0.1, floor: float = 1e-3) -> None:
        super().__init__(data)
        if components < 1 or not 0 < floor < initial:
            raise UserError(
                f"a mixture of {components} logistics starts at scale {initial} with floor {floor}: expected at least "
                "one and 0 < floor < initial; set components, initial and floor of the likelihood so"
            )
        c = data.shape[0]
        self.components, self.initial, self.floor, self.levels = components, initial, floor, data.levels or 256
        self.sizes = [components, components * c, components * c, components * (c * (c - 1) // 2)]
        self.channels = sum(self.sizes)
        self.facts = {"scale_floor": floor, "components": components}

    def distribution(self, outputs: Tensor) -> Distribution:
        logits, *rest = outputs.split(self.sizes, -3)
        loc, log_excess, coupling = (part.unflatten(-3, (self.components, -1)) if part.shape[-3] else
                                     part.unsqueeze(-4) for part in rest)  # fmt: skip
        return levels.LogisticMixture(logits, loc, self.floor + log_excess.exp(), torch.tanh(coupling), self.levels)

    def start(self, mean: Tensor) -> Tensor:
        spread = torch.linspace(-1, 1, self.components) if self.components > 1 else torch.zeros(1)
        loc = mean + self.initial * spread.to(mean)[:, None, None, None]
        scale = torch.full_like(loc, math.log(self.initial - self.floor))
        weights, coupling = (mean.new_zeros(self.sizes[i], *mean.shape[1:]) for i in (0, 3))
        return torch.cat([weights, loc.flatten(0, 1), scale.flatten(0, 1), coupling])


class Pixelwise(Likelihood):
    """p(x|z) with pixels that are independent given z, from `pixels` and the network's outputs."""

    def __init__(
        self, latent: Shape, data: DataSpec, pixels: Pixels, net: Callable[[Shape, Shape], Network], start: bool
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.facts = {**pixels.facts}
        self.net = net(latent, (pixels.channels, *data.shape[1:]))
        if start:
            self.start(self.net, data.mean, pixels.start)

    def forward(self, c: Tensor | None = None) -> Distribution:
        return self.pixels.distribution(self.net(c))


class Categorical(Pixelwise):
    """p(x|z): a probability for each of N levels of every value, regardless of their order; see `CategoricalPixels`.

    van den Oord et al. 2016 (https://arxiv.org/abs/1601.06759). With N outputs per value, use a convolutional network.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        net: builds the network from latents to logits.
        start_at_mean: initialise the probabilities at the training mean.
    """

    support = CategoricalPixels.support

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        net: Callable[[Shape, Shape], Network] = MLP,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__(latent, data, CategoricalPixels(data), net, start_at_mean)


class LogisticMixture(Pixelwise):
    """p(x|z): a mixture of discretised logistics with autoregressive channels of a pixel.

    Salimans et al. 2017 (https://arxiv.org/abs/1701.05517); see `distributions.levels.LogisticMixture`.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        net: builds the network from latents to the parameters of all components.
        components, initial, floor: see `MixturePixels`.
        start_at_mean: initialise the locations around the training mean.
    """

    support = MixturePixels.support

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        net: Callable[[Shape, Shape], Network] = MLP,
        components: int = 5,
        initial: float = 0.1,
        floor: float = 1e-3,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__(latent, data, MixturePixels(data, components, initial, floor), net, start_at_mean)
