"""3D Shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._factors import GridImages, published
from vaebench.data._prepare import channels_first
from vaebench.data.arrays import read_arrays
from vaebench.errors import UserError


@final
class Shapes3D(GridImages):
    """3D Shapes: coloured scenes, 3 × 64 × 64, one for each combination of six factors; 384,000 / 48,000 / 48,000.

    The published HDF5 file is read from `$VAEBENCH_DATA/shapes3d` by h5py, and its images stay in a file (6 GB), unless
    `VAEBENCH_MEMORY` is larger. The splits are this suite's: there are none that others use.

    Reference:
        Burgess & Kim 2018, https://github.com/google-deepmind/3d-shapes.

    Args:
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    FACTORS: Mapping[str, int] = {
        "floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15,
    }  # fmt: skip
    LABEL = "shape"
    file: ClassVar[str] = "3dshapes.h5"

    def __init__(self, measure: str = "discrete256", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def grid(self) -> NDArray[np.uint8]:
        path = published(self.name, self.file, "https://github.com/google-deepmind/3d-shapes")
        arrays = read_arrays(path)
        if "images" not in arrays or arrays["images"].ndim != 4 or arrays["images"].dtype != np.uint8:
            raise UserError(f"'{path}' holds no images (n, 64, 64, 3) of uint8; put an intact copy in its place")
        return channels_first(arrays["images"], "nhwc", f"'{path}'")
