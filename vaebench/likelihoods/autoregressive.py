"""The PixelCNN as a decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.distributions.autoregressive import Autoregressive
from vaebench.likelihoods import Likelihood
from vaebench.likelihoods.levels import BernoulliPixels, MixturePixels, Pixels
from vaebench.measures import BINARY, DISCRETE, DataSpec, Shape
from vaebench.networks import MLP, Network
from vaebench.networks.pixelcnn import GatedPixelCNN


class PixelCNN(Likelihood):
    r"""A gated PixelCNN conditioned on z: an exact likelihood with dependent pixels.

    .. math:: p(x|z) = \prod_i p(x_i \,|\, x_{<i}, z)

    With a large receptive field it can ignore z, and the posterior collapses. `wide` and `kernel` limit the receptive
    field (`GatedPixelCNN.reach`), which leaves the global structure to z.

    References:
        PixelVAE: Gulrajani et al. 2017, https://arxiv.org/abs/1611.05013. The restriction, and why it is needed: Chen
        et al. 2017, Variational lossy autoencoder, https://arxiv.org/abs/1611.02731.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        pixels: builds p(x_i | …) from the network's outputs; None for a Bernoulli for binary images, and for levels a
            mixture of logistics with autoregressive channels.
        channels, layers, kernel, wide, context, net: see `GatedPixelCNN`.
        start_at_mean: initialise the output bias so that p(x_i | …) has the training mean.
    """

    support = frozenset({BINARY, DISCRETE})

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        pixels: Callable[[DataSpec], Pixels] | None = None,
        channels: int = 32,
        layers: int = 5,
        kernel: int = 5,
        wide: int | None = None,
        context: int = 8,
        net: Callable[[Shape, Shape], Network] = MLP,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__()
        self.latent = torch.Size(latent)
        natural: type[Pixels] = BernoulliPixels if data.kind == BINARY else MixturePixels
        self.pixels = (pixels or natural)(data)
        self.net = GatedPixelCNN(data.shape, self.pixels.channels, latent, channels, layers, kernel, wide, context, net)
        self.facts: dict[str, Any] = {**self.pixels.facts, "reach": self.net.reach}
        self.width = 4 * channels // data.shape[0] + 1
        if start_at_mean:
            self.start(self.net, data.mean, self.pixels.start)

    def forward(self, c: Tensor | None = None) -> Distribution:
        assert c is not None  # a decoder has a latent
        return Autoregressive(self.net, c, self.latent, self.pixels.distribution)
