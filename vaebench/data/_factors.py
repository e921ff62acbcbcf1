"""Data sets of which every combination of some factors is one image, in the order of a grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.data._stored import Stored, as_stored
from vaebench.data.base import ImageData, Split, carve, shuffled
from vaebench.data.cache import data_folder
from vaebench.errors import UserError, unknown

HELD_OUT = 10  # parts of the grid, of which one is the validation split and one the test split


class GridImages(ImageData, ABC):
    """One image for each combination of factors, shuffled with a fixed seed and cut: 80 %, 10 % and 10 %.

    Published data sets of this kind have no splits. Labels are the factor `LABEL`.

    Attributes:
        FACTORS: names of the factors, the last varying fastest, with the number of values of each.
        LABEL: the factor that is the label.
    """

    FACTORS: Mapping[str, int]
    LABEL: str

    @abstractmethod
    def grid(self) -> NDArray[np.uint8]:
        """All images (n, c, h, w) in the order of the grid, from disk."""

    def raw(self) -> Mapping[str, Split]:
        images, values = as_stored(self.grid()), self._values()
        if len(images) != len(values):
            raise UserError(
                f"{self.name} has {len(images):,} images on disk, where its factors have {len(values):,} combinations; "
                "put an intact copy of its file there"
            )
        order = self._order()
        return self._cut(images[order], values[order, list(self.FACTORS).index(self.LABEL)], order)

    def factors(self, split: str) -> Tensor:
        """The values of the factors of a split's images, in their order: (n, factors) int64, columns as in `FACTORS`.

        Raises:
            UserError: there is no such split.
        """
        order = self._order()
        places = self._cut(np.zeros((len(order), 1, 1, 1), np.uint8), None, order)
        if split not in places:
            raise unknown("split", split, places)
        index = places[split].source
        return torch.from_numpy(self._values())[index]

    def _order(self) -> NDArray[np.int64]:
        return shuffled(prod(self.FACTORS.values()))

    def _values(self) -> NDArray[np.int64]:
        """The factors of all images in the order of the grid, (n, factors)."""
        sizes = tuple(self.FACTORS.values())
        return np.stack(np.unravel_index(np.arange(prod(sizes)), sizes), 1)

    def _cut(
        self, images: NDArray[np.uint8] | Stored, labels: NDArray[Any] | None, order: NDArray[np.int64]
    ) -> dict[str, Split]:
        held_out = max(1, len(images) // HELD_OUT)
        return carve(images, labels, order, train=-1, val=held_out, test=held_out)


def published(dataset: str, name: str, source: str) -> Path:
    """A file or folder of a published data set that is not downloaded by itself.

    Args:
        dataset: its folder below `VAEBENCH_DATA`.
        name: of the file or folder in it.
        source: where it is published.

    Raises:
        UserError: it is not there.
    """
    path = data_folder(dataset) / name
    if not path.exists():
        raise UserError(
            f"{path} is missing, and vaebench does not download it: expected it as it is published; put it there from "
            f"{source}, or point VAEBENCH_DATA at the folder that holds '{dataset}'"
        )
    return path
