"""Digits: the data set that needs no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from vaebench.data.base import ImageData, Split, carve, shuffled


@final
class Digits(ImageData):
    """Handwritten digits that come with scikit-learn: 1 × 8 × 8, 17 levels, with labels 0 to 9; 1,297 / 200 / 300.

    The test part of the UCI set: 1,797 images whose pixels count the ink in blocks of 4 × 4, from 0 to 16. They are
    shuffled with a fixed seed, for neighbours are from one hand.

    Reference:
        Alpaydin & Kaynak 1998, https://archive.ics.uci.edu/dataset/80.

    Args:
        measure: 'binary' (dynamic binarization), 'discrete17' or 'continuous'.
        batch_size: images per batch and process.
    """

    levels = 17
    measures = ("binary", "discrete17", "continuous")

    def __init__(self, measure: str = "binary", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        order = shuffled(len(bunch.images))
        levels = bunch.images[order, None]
        return carve(levels, bunch.target[order], order, train=-1, val=200, test=300)
