"""Shapes: images of which all factors of variation are known, drawn by the code."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vaebench.data._stored import in_memory
from vaebench.data.base import ImageData, Split, carve, shuffled
from vaebench.errors import unknown

SIDE, REACH = 64, 13  # pixels: of an image, and from a shape's centre as far as it can extend


@final
class Shapes(ImageData):
    """White shapes on black, 1 × 64 × 64, one for each combination of five factors; 7,216 / 1,000 / 1,000.

    The factors, each uniform and independent of the others over the whole grid: which shape (square, ellipse, heart),
    its scale, its rotation (eighths of a right angle, for a square looks the same after a whole one, so that no two
    combinations give one image), and the x and y of its centre. The grid is shuffled with a fixed seed and cut into
    disjoint splits. Labels are the shape.

    Reference:
        In the manner of dSprites: Matthey, Higgins, Hassabis & Lerchner 2017,
        https://github.com/google-deepmind/dsprites-dataset.

    Args:
        measure: 'binary'.
        batch_size: images per batch and process.

    Attributes:
        FACTORS: names of the factors, with the number of values of each; every image's values count from 0.
    """

    levels = 2
    measures = ("binary",)
    FACTORS: Mapping[str, int] = {"shape": 3, "scale": 6, "rotation": 8, "x": 8, "y": 8}

    def __init__(self, measure: str = "binary", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        images = draw_shapes(*self.FACTORS.values())
        order = shuffled(len(images))
        return _cut(images[order], self._values()[:, 0], order)

    def factors(self, split: str) -> Tensor:
        """The values of the factors of a split's images, in their order: (n, 5) int64, columns as in `FACTORS`.

        Raises:
            UserError: there is no such split.
        """
        values = _cut(self._values()[:, None, None], None)
        if split not in values:
            raise unknown("split", split, values)
        return in_memory(values[split].images)[:, 0, 0].long()

    def _values(self) -> NDArray[np.int64]:
        """The factors of all images, (n, 5), in the order of the splits."""
        sizes = tuple(self.FACTORS.values())
        return np.stack(np.unravel_index(shuffled(prod(sizes)), sizes), 1)


def draw_shapes(shapes: int, scales: int, rotations: int, columns: int, rows: int) -> NDArray[np.uint8]:
    """All combinations of the factors, the last varying fastest: (n, 1, 64, 64) of 0 and 1.

    A pixel is white where its centre lies inside the shape. Scales run from 1/2 to 1, rotations from 0 in equal parts
    of a right angle, and centres, in whole pixels, over all places where a shape lies inside the image.

    >>> draw_shapes(3, 2, 1, 2, 2).shape
    (24, 1, 64, 64)
    """
    offset = np.arange(-REACH, REACH + 1)
    scale = np.linspace(0.5, 1.0, scales)[None, :, None, None, None] * REACH
    angle = (np.arange(rotations) * np.pi / 2 / rotations)[None, None, :, None, None]
    u = (np.cos(angle) * offset + np.sin(angle) * offset[:, None]) / scale
    v = (np.cos(angle) * offset[:, None] - np.sin(angle) * offset) / scale
    patches = np.concatenate([inside(u, v) for inside in (_square, _ellipse, _heart)[:shapes]])
    images = np.zeros((*patches.shape[:3], columns, rows, SIDE, SIDE), np.uint8)
    places = [np.linspace(0, SIDE - len(offset), n).round().astype(int) for n in (columns, rows)]
    for i, left in enumerate(places[0]):
        for j, top in enumerate(places[1]):
            images[:, :, :, i, j, top : top + len(offset), left : left + len(offset)] = patches
    return images.reshape(-1, 1, SIDE, SIDE)


def _square(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(abs(u), abs(v)) < 0.7


def _ellipse(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return u**2 + (2 * v) ** 2 < 1


def _heart(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    x, y = 1.35 * u, 0.1 - 1.35 * v  # rows count downwards
    return (x**2 + y**2 - 1) ** 3 < x**2 * y**3


def _cut(
    images: NDArray[Any], labels: NDArray[np.int64] | None, index: NDArray[np.int64] | None = None
) -> dict[str, Split]:
    held_out = len(images) * 1000 // 9216
    return carve(images, labels, index, train=-1, val=held_out, test=held_out)
