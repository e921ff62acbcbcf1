"""Autoregressive distributions over images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import LEVELS, SampleShape
from vaebench.networks.pixelcnn import GatedPixelCNN

__all__ = ["Autoregressive"]


class Autoregressive(Distribution):
    r"""p(x|z) = Π_i p(x_i | x_{<i}, z): scored in one pass of the network, sampled in one for every pixel.

    It has no mean in closed form.

    Args:
        net: maps 2x − 1 to each pixel's parameters.
        z: latents, (*batch, *latent).
        latent: shape of a latent.
        pixels: maps parameters (*batch, outputs, h, w), for any h and w, to a distribution over (c, h, w).
    """

    arg_constraints = {"z": constraints.real}
    support = LEVELS

    def __init__(
        self, net: GatedPixelCNN, z: Tensor, latent: torch.Size, pixels: Callable[[Tensor], Distribution]
    ) -> None:
        self.net, self.z, self.latent, self.pixels = net, z, latent, pixels
        super().__init__(z.shape[: z.dim() - len(latent)], torch.Size(net.inputs), validate_args=False)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        z = self.z.expand(*shape[:-3], *self.latent).reshape(-1, *self.latent)
        with torch.no_grad():
            drawn = self.net.sample(lambda outputs: 2 * self.pixels(outputs).sample() - 1, len(z), z)
            return ((drawn + 1) / 2).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(self.batch_shape, value.shape[:-3])
        x, z = value.expand(*batch, *self.event_shape), self.z.expand(*batch, *self.latent)
        return self.pixels(self.net(2 * x - 1, z)).log_prob(x)
