"""A small U-Net of a noisy image, its noise level and a latent."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.measures import Shape
from vaebench.networks import MLP, Linear, Network

FREQUENCIES = 16


class UNet(Network):
    """Downsampling and upsampling convolutions with skip connections, on an image and features of a latent.

    Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597), with the noise embedding of Ho et al. 2020
    (https://arxiv.org/abs/2006.11239); without attention or normalisation.

    Args:
        image: shape of an image and of the output, (c, h, w).
        latent: shape of a latent.
        channels: at full resolution; doubled at each halving.
        levels: number of halvings of the image.
        context: channels of the latent's features.
        net: builds the network from a latent to its features, (context, h, w).

    Attributes:
        output_bias: not added here, but by the user of the network.
    """

    def __init__(
        self,
        image: Shape,
        latent: Shape,
        channels: int = 16,
        levels: int = 2,
        context: int = 4,
        net: Callable[[Shape, Shape], Network] = MLP,
    ) -> None:
        super().__init__(image, image)
        widths = [channels * 2**i for i in range(levels + 1)]
        self.context = net(latent, (context, *image[1:]))
        self.noise = nn.ModuleList([Linear(2 * FREQUENCIES, widths[-1]), Linear(widths[-1], sum(widths))])
        self.widths = widths
        self.stem = nn.Conv2d(image[0] + context, channels, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.middle = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths)
        self.up = nn.ModuleList(nn.Conv2d(a + b, a, 3, padding=1) for a, b in pairwise(widths))
        self.head = nn.Conv2d(channels, image[0], 3, padding=1, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(math.prod(image)))

    def forward(self, x: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Images x (n, c, h, w), latents z (n, *latent), log signal-to-noise ratios `level` (n,) -> (n, c, h, w)."""
        rates = torch.exp(torch.linspace(-4, 2, FREQUENCIES, dtype=x.dtype, device=x.device))
        waves = level[:, None] * rates
        embedded = self.noise[1](F.silu(self.noise[0](torch.cat([waves.sin(), waves.cos()], -1))))
        parts = embedded[..., None, None].split(self.widths, 1)
        h = self.stem(torch.cat([x, self.context(z)], 1))
        skips = []
        for i, part in enumerate(parts):
            h = h + self.middle[i](F.silu(h + part))
            if i + 1 < len(parts):
                skips.append(h)
                h = self.down[i](F.silu(h))
        for up, skip in zip(reversed(self.up), reversed(skips), strict=True):
            h = F.interpolate(h, scale_factor=2.0, mode="nearest")[..., : skip.shape[-2], : skip.shape[-1]]
            h = up(F.silu(torch.cat([skip, h], 1)))
        return self.head(F.silu(h))
