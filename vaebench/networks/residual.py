"""Residual cells, and the networks of a top-down hierarchy of feature maps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.measures import Shape
from vaebench.networks import Network


class ScaleLayout(NamedTuple):
    """The scales of a hierarchy of feature maps.

    Attributes:
        sizes: (h, w) of every scale, finest first; each is half the previous one, rounded up.
        groups: number of levels of each scale, finest first.
    """

    sizes: tuple[tuple[int, int], ...]
    groups: tuple[int, ...]

    @property
    def levels(self) -> list[int]:
        """The scale of every level, lowest level first."""
        return [scale for scale, count in enumerate(self.groups) for _ in range(count)]


def scale_layout(image: Shape, groups: tuple[int, ...]) -> ScaleLayout:
    """Scales of half, a quarter, … of an image (c, h, w), with the given numbers of levels."""
    sizes = [(image[1], image[2])]
    for _ in groups:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return ScaleLayout(tuple(sizes[1:]), tuple(groups))


class SpectralConv(nn.Conv2d):
    """A convolution with a bound on its weight's largest singular value, rescaled if the bound exceeds `limit`.

    The bound is √(‖W‖₁ ‖W‖_∞) of the weight as a matrix (out, in · k · k), which needs neither power iterations nor
    state, so that steps stay pure. Miyato et al. 2018 (https://arxiv.org/abs/1802.05957) use power iterations.

    Args:
        inputs, outputs: channels.
        size: of the kernel; the output has the size of the input.
        limit: of the matrix norm; 0 for no limit.
    """

    def __init__(self, inputs: int, outputs: int, size: int, limit: float = 0.0) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.limit:
            magnitude = weight.flatten(1).abs()
            norm = (magnitude.sum(0).amax() * magnitude.sum(1).amax()).sqrt()
            weight = weight * (self.limit / norm).clamp(max=1.0)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class ResidualCell(nn.Module):
    """x + ½ f(x), with f of 1 × 1, 3 × 3, 3 × 3 and 1 × 1 convolutions through half as many channels (VDVAE's block).

    Child 2021 (https://arxiv.org/abs/2011.10650), without batch normalisation as in the paper; the last weights of f
    are initialised small.

    Args:
        channels: of x.
        limit: see `SpectralConv`.
        outputs: channels of f if they differ from those of x; then without the residual connection.
    """

    def __init__(self, channels: int, limit: float = 0.0, outputs: int | None = None) -> None:
        super().__init__()
        self.residual, inner = outputs is None, max(1, channels // 2)
        widths = [channels, inner, inner, inner, outputs or channels]
        kernels = (1, 3, 3, 1)
        self.layers = nn.ModuleList(
            SpectralConv(a, b, size, limit) for (a, b), size in zip(pairwise(widths), kernels, strict=True)
        )
        with torch.no_grad():
            self.layers[-1].weight.mul_(0.3)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = layer(F.gelu(y))
        return x + y / 2 if self.residual else y


class FeaturePyramid(nn.Module):
    """An image (b, c, h, w) -> feature maps of every scale, finest first.

    Args:
        image: shape of an image.
        layout: the scales.
        channels: of all feature maps.
        cells: residual cells per scale.
        limit: see `SpectralConv`.
    """

    def __init__(self, image: Shape, layout: ScaleLayout, channels: int, cells: int, limit: float) -> None:
        super().__init__()
        self.layout = layout
        self.stem = SpectralConv(image[0], channels, 3, limit)
        self.cells = nn.ModuleList(
            nn.Sequential(*(ResidualCell(channels, limit) for _ in range(cells))) for _ in layout.sizes
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features, h = [], self.stem(x)
        for cells, (height, width) in zip(self.cells, self.layout.sizes, strict=True):
            h = F.avg_pool2d(h, 2, ceil_mode=True)[..., :height, :width]
            h = cells(h)
            features.append(h)
        return features


class Readout(Network):
    """Feature maps (c, h, w) -> an image of at most twice the size, by one cell, one convolution and a bias per value.

    Args:
        inputs: shape of the feature map.
        outputs: shape of the image, (c, h, w).
    """

    def __init__(self, inputs: Shape, outputs: Shape) -> None:
        super().__init__(inputs, outputs)
        self.cell = ResidualCell(inputs[0])
        self.head = nn.Conv2d(inputs[0], outputs[0], 3, padding=1, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(torch.Size(outputs).numel()))

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.dim() - 3]
        h = F.interpolate(x.flatten(0, -4), scale_factor=2.0, mode="nearest")
        h = self.cell(h[..., : self.outputs[1], : self.outputs[2]])
        return (self.head(F.gelu(h)).flatten(1) + self.output_bias).reshape(*batch, *self.outputs)


def batched(net: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Applies a network of (b, c, h, w) to maps (*batch, c, h, w) with any number of batch dimensions."""
    batch = maps.shape[:-3]
    made = net(maps.reshape(-1, *maps.shape[-3:]))
    return made.reshape(*batch, *made.shape[1:])
