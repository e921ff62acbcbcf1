"""The gated PixelCNN: outputs at each pixel from the preceding pixels in raster order."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import MLP, Network

PixelSampler = Callable[[Tensor], Tensor]


class GatedPixelCNN(Network):
    r"""Two stacks of gated masked convolutions, conditioned on features of a latent at every pixel.

    .. math:: y = \tanh(W_f * x + V_f s) \odot \sigma(W_g * x + V_g s), \qquad s = s(z)

    The vertical stack reads the rows above. The horizontal stack reads the pixels to the left and the vertical
    stack's output; together they cover all preceding pixels, without a blind spot. With kernels of size k in the first
    `wide` layers and 1 in the others, the receptive field is exactly the `reach` = wide (k − 1) / 2 rows above a pixel,
    as many columns to both sides there, and as many pixels to its left.

    References:
        van den Oord et al. 2016, Conditional image generation with PixelCNN decoders,
        https://arxiv.org/abs/1606.05328; s(z) at every pixel is Gulrajani et al. 2017, https://arxiv.org/abs/1611.05013.

    Args:
        image: shape of an image, (c, h, w), possibly of codes as one-hot vectors or embeddings.
        outputs: number of outputs per pixel.
        latent: shape of a latent; None for an unconditional network.
        channels: of each stack.
        layers: number of gated layers, 1 or more.
        kernel: k, odd, 3 or more.
        wide: number of layers with kernels of size k, from 1 to `layers`; None for all.
        context: channels of s(z).
        net: builds the network from a latent to s(z), (context, h, w).

    Attributes:
        reach: extent of the receptive field, pixels.
        output_bias: the last bias, (outputs × h × w,).

    Raises:
        UserError: an even kernel, or an invalid number of layers.
    """

    def __init__(
        self,
        image: Shape,
        outputs: int,
        latent: Shape | None = None,
        channels: int = 32,
        layers: int = 5,
        kernel: int = 5,
        wide: int | None = None,
        context: int = 8,
        net: Callable[[Shape, Shape], Network] = MLP,
    ) -> None:
        super().__init__(image, (outputs, *image[1:]))
        wide = layers if wide is None else wide
        if kernel < 3 or kernel % 2 == 0 or not 1 <= wide <= layers:
            raise UserError(
                f"GatedPixelCNN has kernels of size {kernel} in {wide} of {layers} layers: expected an odd size of at "
                "least 3 in 1 to all of the layers; set kernel, wide and layers so"
            )
        self.reach = wide * (kernel // 2)
        self.context = None if latent is None else net(latent, (context, *image[1:]))
        says = 0 if latent is None else context
        self.gated = nn.ModuleList(
            _Gated(channels if i else image[0], channels, kernel if i < wide else 1, says, first=i == 0)
            for i in range(layers)
        )
        self.inner, self.head = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, outputs, 1, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(outputs * prod(image[1:])))

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Images x (*batch, c, h, w) and latents z (*batch, *latent) -> outputs (*batch, outputs, h, w)."""
        batch = x.shape[:-3]
        says = self.says(z)
        v = h = x.reshape(-1, *self.inputs)
        for layer in self.layers:
            v, link = layer.vertical(layer.above(v), says)
            h = layer.horizontal(layer.left(h), link, says, h)
        out = self._heads(h) + self._bias
        return out.reshape(*batch, *self.outputs)

    @property
    def layers(self) -> list[_Gated]:
        return cast(list[_Gated], list(self.gated))

    def says(self, z: Tensor | None) -> Tensor | None:
        """s(z), (n, context, h, w), of latents (*batch, *latent), with the batch dimensions flattened to n."""
        return None if self.context is None or z is None else self.context(z).reshape(-1, *self.context.outputs)

    def sample(self, draw: PixelSampler, n: int, z: Tensor | None = None) -> Tensor:
        """n images (n, c, h, w), sampled pixel by pixel with cached activations of earlier pixels.

        Ramachandran et al. 2017, Fast generation for convolutional autoregressive models,
        https://arxiv.org/abs/1704.06001. Row by row for the vertical stack, pixel by pixel for the horizontal one.

        Args:
            draw: maps outputs (n, outputs, 1, 1) to pixels in the network's input format, (n, c, 1, 1).
            n: number of images.
            z: one latent per image, (n, *latent).
        """
        height, width = self.inputs[1:]
        like, bias, says, layers = self.output_bias, self._bias, self.says(z), self.layers
        x = like.new_zeros(n, *self.inputs)
        sizes = [layer.channels for layer in layers]
        above = [like.new_zeros(n, c, height + layer.up, width + 2 * layer.reach)
                 for c, layer in zip(sizes, layers, strict=True)]  # fmt: skip
        for i in range(height):
            row = None if says is None else says[:, :, i : i + 1]
            links = []
            for k, layer in enumerate(layers):
                v, link = layer.vertical(above[k][:, :, i : i + layer.rows], row)
                links.append(link)
                if k + 1 < len(layers):
                    _write(above[k + 1], v, i + layers[k + 1].up, layers[k + 1].reach)
            left = [like.new_zeros(n, c, 1, width + layer.back) for c, layer in zip(sizes, layers, strict=True)]
            for j in range(width):
                at = None if row is None else row[..., j : j + 1]
                h = x[:, :, i : i + 1, j : j + 1]
                for k, layer in enumerate(layers):
                    h = layer.horizontal(left[k][..., j : j + layer.columns], links[k][..., j : j + 1], at, h)
                    if k + 1 < len(layers):
                        _write(left[k + 1], h, 0, j + layers[k + 1].back)
                pixel = draw(self._heads(h) + bias[:, i : i + 1, j : j + 1])
                x[:, :, i : i + 1, j : j + 1] = pixel
                _write(left[0], pixel, 0, j + layers[0].back)
            _write(above[0], x[:, :, i : i + 1], i + layers[0].up, layers[0].reach)
        return x

    def _heads(self, h: Tensor) -> Tensor:
        return self.head(F.relu(self.inner(F.relu(h))))

    @property
    def _bias(self) -> Tensor:
        return self.output_bias.view(self.outputs)


def _write(buffer: Tensor, part: Tensor, row: int, column: int) -> None:
    buffer[:, :, row : row + part.shape[2], column : column + part.shape[3]] = part


class _Gated(nn.Module):
    """One layer of both stacks, as functions of windows: whole padded images, or the receptive field of one pixel.

    The first layer reads only the preceding pixels; the others also the layer below at the pixel itself.
    """

    def __init__(self, channels: int, width: int, kernel: int, context: int, first: bool) -> None:
        super().__init__()
        self.channels, self.first, self.reach = channels, first, kernel // 2
        self.up = self.back = self.reach  # rows of padding above, columns of padding to the left
        self.rows = self.columns = self.reach if first else self.reach + 1
        self.down, self.across = (
            nn.Conv2d(channels, 2 * width, size) for size in ((self.rows, kernel), (1, self.columns))
        )
        self.link, self.out = nn.Conv2d(2 * width, 2 * width, 1), nn.Conv2d(width, width, 1)
        self.says = nn.Conv2d(context, 4 * width, 1, bias=False) if context else None

    def above(self, v: Tensor) -> Tensor:
        """A whole image, padded for `vertical`."""
        return F.pad(v, (self.reach, self.reach, self.up, 0))[:, :, : -1 if self.first else None]

    def left(self, h: Tensor) -> Tensor:
        """A whole image, padded for `horizontal`."""
        return F.pad(h, (self.back, 0, 0, 0))[..., : -1 if self.first else None]

    def vertical(self, window: Tensor, says: Tensor | None) -> tuple[Tensor, Tensor]:
        """The vertical stack's output, and its link to the horizontal stack."""
        v = self.down(window)
        return _gate(v + self._said(says, 0)), self.link(v)

    def horizontal(self, window: Tensor, link: Tensor, says: Tensor | None, below: Tensor) -> Tensor:
        """The horizontal stack's output, with a residual connection except in the first layer."""
        h = self.out(_gate(self.across(window) + link + self._said(says, 1)))
        return h if self.first else h + below

    def _said(self, says: Tensor | None, stack: int) -> Tensor | float:
        if self.says is None or says is None:
            return 0.0
        return F.conv2d(says, self.says.weight.chunk(2)[stack])


def _gate(x: Tensor) -> Tensor:
    signal, gate = x.chunk(2, 1)
    return torch.tanh(signal) * torch.sigmoid(gate)
