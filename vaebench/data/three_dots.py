"""Three dots: images whose factors of variation only neighbours can tell apart, drawn by the code."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vaebench.data._stored import in_memory
from vaebench.data.base import ImageData, Split, carve
from vaebench.errors import UserError, unknown

RADIUS = 0.08  # of a dot, as a share of the image's side
SIZES = {"train": 20_000, "val": 1_000, "test": 5_000}


@final
class ThreeDots(ImageData):
    """Three equal white dots on black, each anywhere, 1 × side × side; 20,000 / 1,000 / 5,000.

    The six factors are the x and y of the centre of each dot, uniform and independent over `side` values from edge to
    edge; dots may overlap and leave the image in part. A permutation of the dots gives the same image, so that no unit
    can hold "the x of the first dot" over the whole set, while among neighbours, where each dot stays near a place of
    its own, units can: the local MIG tells what the MIG cannot. Drawn once from a fixed seed, no image twice; there are
    no labels.

    The authors' images are black on white, of 64 × 64 pixels, and grey at the edges of a dot; here a pixel is white
    where its centre lies inside a dot. They draw 500,000 to train on, and others around each centre of a local score.

    Reference:
        Rhodes & Lee 2021, https://arxiv.org/abs/2106.02923; the code, https://github.com/travers-rhodes/jlonevae.

    Args:
        measure: 'binary'.
        batch_size: images a batch and process.
        side: of an image, pixels, 16 or more; the authors' is 64.

    Attributes:
        FACTORS: names of the factors, with the number of values of each; every image's values count from 0.

    Raises:
        UserError: the side is too small.
    """

    levels = 2
    measures = ("binary",)

    def __init__(self, measure: str = "binary", batch_size: int = 128, side: int = 32) -> None:
        super().__init__(measure, batch_size)
        if side < 16:
            raise UserError(f"data.side is {side}, where 16 pixels or more are expected; give it a larger one")
        self.side = side
        self.FACTORS = dict.fromkeys(("x_0", "y_0", "x_1", "y_1", "x_2", "y_2"), side)

    def raw(self) -> Mapping[str, Split]:
        return carve(_distinct(self.side)[0], None, None, **SIZES)

    def factors(self, split: str) -> Tensor:
        """The values of the factors of a split's images, in their order: (n, 6) int64, columns as in `FACTORS`.

        Raises:
            UserError: there is no such split.
        """
        values = carve(_distinct(self.side)[1][:, :, None, None], None, None, **SIZES)
        if split not in values:
            raise unknown("split", split, values)
        return in_memory(values[split].images)[:, :, 0, 0].long()


@functools.cache
def _distinct(side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images without repeats, (n, 1, side, side), and their factors, (n, 6), in the order of the splits."""
    n = sum(SIZES.values())
    values = np.random.RandomState(0).randint(0, side, (n + n // 4, 6))
    images = draw_dots(values, side)
    bits = np.packbits(images.reshape(len(images), -1), axis=1)
    first = np.sort(np.unique(bits, axis=0, return_index=True)[1])[:n]
    return images[first], values[first]


def draw_dots(centres: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """Images (n, 1, side, side) of 0 and 1 with dots of radius 0.08 × side at centres (n, 2 × dots).

    Centres are x and y of one dot after the other, whole numbers from 0, the image's left or upper edge, to side − 1,
    its right or lower one; a pixel is white where its centre lies inside a dot.

    >>> int(draw_dots(np.array([[0, 0, 15, 15]]), 16).sum())
    2
    """
    at = np.arange(side) + 0.5  # centres of pixels
    x, y = (centres[:, start::2, None] * side / (side - 1) for start in (0, 1))  # (n, dots, 1)
    across, down = (x - at) ** 2, (y - at) ** 2  # (n, dots, side)
    images = np.zeros((len(centres), 1, side, side), np.uint8)
    for dot in range(across.shape[1]):
        images[:, 0] |= across[:, dot, None, :] + down[:, dot, :, None] < (RADIUS * side) ** 2
    return images
