"""A data set of your own: stripes, drawn by the code. One of files on a disk reads them in `raw`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np

from vaebench.data.base import ImageData, Split, carve, shuffled


@final
class Stripes(ImageData):
    """Stripes of every direction, width and place, 1 × 12 × 12, 256 grey levels; labels are one of four directions.

    Args:
        measure: 'binary' (bits are drawn anew in every batch), 'discrete256' or 'continuous'.
        batch_size: images a batch and process.
    """

    levels = 256
    measures = ("binary", "discrete256", "continuous")

    def __init__(self, measure: str = "binary", batch_size: int = 100) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        y, x = np.mgrid[:12, :12] / 12
        angle, width, phase = np.meshgrid(np.arange(20) * np.pi / 20, np.linspace(1, 3, 8), np.arange(10) / 10)
        angle, width, phase = (value.reshape(-1, 1, 1) for value in (angle, width, phase))
        waves = np.sin(2 * np.pi * (width * (x * np.cos(angle) + y * np.sin(angle)) + phase))
        images = np.rint(255 * (0.5 + 0.5 * waves)).astype(np.uint8)[:, None]
        order = shuffled(len(images))
        labels = (np.rint(angle.reshape(-1) / (np.pi / 4)) % 4).astype(np.int64)
        return carve(images[order], labels[order], order, train=-1, val=160, test=160)
