"""Layout of grids of small images, for drawing and for cutting them apart. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TILE = 56  # pixels; smaller images are enlarged to about that
GAP = 2  # pixels between two images


def layout(shape: Sequence[int]) -> tuple[int, int, int]:
    """The enlargement of images (..., h, w), and the vertical and horizontal distance between tiles."""
    height, width = shape[-2:]
    zoom = max(1, round(TILE / max(height, width)))
    return zoom, height * zoom + GAP, width * zoom + GAP


def cut(page: NDArray[np.uint8], shape: Sequence[int]) -> list[list[NDArray[np.uint8]]]:
    """Rows of the single images of a grid, at their drawn size.

    Args:
        page: the grid, (h, w, 3).
        shape: of an image, (c, h, w).

    Raises:
        ValueError: it is not a grid of such images.
    """
    zoom, down, across = layout(shape)
    height, width = zoom * shape[-2], zoom * shape[-1]
    if (page.shape[0] - GAP) % down or (page.shape[1] - GAP) % across:
        raise ValueError(f"a picture of {page.shape[0]} × {page.shape[1]} pixels is no grid of {height} × {width}")
    tops, lefts = range(GAP, page.shape[0], down), range(GAP, page.shape[1], across)
    return [[page[top : top + height, left : left + width] for left in lefts] for top in tops]
