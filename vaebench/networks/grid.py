"""Convolutions between an image and vectors on a coarser grid."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import ACTIVATIONS, Activation, Network, Residual
from vaebench.ranges import AMOUNT


@final
class ConvGrid(Network):
    """Convolutions between an image and n vectors of d values on a coarser grid, in raster order.

    From (c, h, w) to (n, d): `levels` strided convolutions that halve the image and double the channels, then `blocks`
    residual blocks and a map to d channels. From (n d,) to (c, h, w): the mirror image, with nearest-neighbour
    upsampling, cropping to the output size, and a bias per output value. van den Oord et al. 2017
    (https://arxiv.org/abs/1711.00937) use the same layout of codes, with transposed convolutions.

    Args:
        inputs: shape of one input, (c, h, w) or (n d,).
        outputs: shape of one output, (n, d) or (c, h, w).
        channels: at full resolution.
        levels: number of halvings of the image; the grid has ⌈h / 2^levels⌉ rows.
        blocks: residual blocks on the grid.
        activation: after every convolution.

    Raises:
        UserError: not exactly one of the shapes is an image, or the number of vectors is not that of the grid.
    """

    RANGES = {"levels": AMOUNT, "blocks": AMOUNT}

    def __init__(
        self,
        inputs: Shape,
        outputs: Shape,
        channels: int = 16,
        levels: int = 2,
        blocks: int = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(inputs, outputs)
        self.activation, self.encodes = activation, len(inputs) == 3
        image, vectors = (inputs, outputs) if self.encodes else (outputs, inputs)
        if len(image) != 3 or len(vectors) == 3:
            raise UserError(
                f"ConvGrid connects an image (c, h, w) and vectors, not {inputs} and {outputs}; use networks.MLP there"
            )
        widths = [channels * 2**i for i in range(levels + 1)]
        self.sizes: list[Shape] = [image[1:]]
        for _ in range(levels):
            self.sizes.append(tuple((s + 1) // 2 for s in self.sizes[-1]))
        (height, width), values = self.sizes[-1], prod(vectors)
        if values % (height * width) or vectors[0] not in (values, height * width):
            raise UserError(
                f"ConvGrid has a grid of {height} × {width} = {height * width} places for these images, and vectors of "
                f"shape {tuple(vectors)} do not stand there; set model.latent to {height * width}, or change net.levels"
            )
        depth = values // (height * width)
        self.residuals = nn.Sequential(*(Residual(widths[-1], activation) for _ in range(blocks)))
        if self.encodes:
            self.stem = nn.Conv2d(image[0], channels, 3, padding=1)
            self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
            self.head = nn.Conv2d(widths[-1], depth, 1, bias=False)
        else:
            self.stem = nn.Conv2d(depth, widths[-1], 3, padding=1)
            self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths[::-1]))
            self.head = nn.Conv2d(channels, image[0], 3, padding=1, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(prod(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.dim() - len(self.inputs)]
        y = self._encode(x.reshape(-1, *self.inputs)) if self.encodes else self._decode(x.reshape(-1, *self.inputs))
        return (y.flatten(1) + self.output_bias).reshape(*batch, *self.outputs)

    def _encode(self, x: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        x = act(self.stem(x))
        for convolution in self.convolutions:
            x = act(convolution(x))
        return self.head(act(self.residuals(x))).permute(0, 2, 3, 1)

    def _decode(self, z: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        grid = z.reshape(len(z), *self.sizes[-1], -1).permute(0, 3, 1, 2)
        x = self.residuals(act(self.stem(grid)))
        for convolution, (height, width) in zip(self.convolutions, self.sizes[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")[..., :height, :width]
            x = act(convolution(x))
        return self.head(x)
