"""dSprites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._factors import GridImages, published
from vaebench.data.arrays import read_arrays
from vaebench.errors import UserError


@final
class DSprites(GridImages):
    """dSprites: white shapes, 1 × 64 × 64, one of each combination of five factors; 589,824 / 73,728 / 73,728.

    The published .npz file is read from `$VAEBENCH_DATA/dsprites`, and its images stay in a file (3 GB), unless
    `VAEBENCH_MEMORY` is larger. The splits are this suite's: there are none that others use.

    Reference:
        Matthey, Higgins, Hassabis & Lerchner 2017, https://github.com/google-deepmind/dsprites-dataset.

    Args:
        measure: 'binary'.
        batch_size: images a batch and process.
    """

    levels = 2
    measures = ("binary",)
    FACTORS: Mapping[str, int] = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
    LABEL = "shape"
    file: ClassVar[str] = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"

    def __init__(self, measure: str = "binary", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def grid(self) -> NDArray[np.uint8]:
        path = published(self.name, self.file, "https://github.com/google-deepmind/dsprites-dataset")
        arrays = read_arrays(path)
        if "imgs" not in arrays or arrays["imgs"].ndim != 3 or arrays["imgs"].dtype != np.uint8:
            raise UserError(f"'{path}' holds no images (n, 64, 64) of uint8 as 'imgs'; put an intact copy in its place")
        return arrays["imgs"][:, None]
