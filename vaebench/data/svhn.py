"""SVHN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._factors import published
from vaebench.data.base import ImageData, Split, carve
from vaebench.data.cache import intact
from vaebench.data.formats import matlab
from vaebench.errors import UserError


@final
class SVHN(ImageData):
    """SVHN, cropped: house numbers, 3 × 32 × 32, with labels 0 to 9; 65,932 / 7,325 / 26,032.

    `train_32x32.mat` and `test_32x32.mat` are read from `$VAEBENCH_DATA/svhn`. The validation split is the last tenth
    of the training images; the extra ones are not used.

    Reference:
        Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers.

    Args:
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    files: ClassVar[Mapping[str, str]] = {"train": "train_32x32.mat", "test": "test_32x32.mat"}

    def __init__(self, measure: str = "discrete256", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        images, labels = self._read("train")
        return carve(images, labels, train=-1, val=len(images) // 10) | carve(*self._read("test"), test=-1)

    def _read(self, split: str) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        path = published(self.name, self.files[split], "http://ufldl.stanford.edu/housenumbers")
        with intact(path):
            x, y = matlab(path.read_bytes(), "X", "y")
        if x.ndim != 4 or x.shape[:3] != (32, 32, 3) or y.size != x.shape[3]:
            raise UserError(
                f"'{path}' holds X of shape {x.shape} and {y.size} labels: expected (32, 32, 3, n) and n; put an "
                "intact copy in its place"
            )
        return np.moveaxis(x, (3, 2), (0, 1)), y.reshape(-1) % 10  # the digit 0 is stored as 10
