"""MPI3D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._factors import GridImages, published
from vaebench.data._prepare import channels_first
from vaebench.data.arrays import read_arrays
from vaebench.errors import UserError


@final
class MPI3D(GridImages):
    """MPI3D: a robot's arm, 3 × 64 × 64, one image for each combination of seven factors; 829,440 / 103,680 / 103,680.

    The published .npz file of a variant is read from `$VAEBENCH_DATA/mpi3d`, and its images stay in a file (13
    GB), unless `VAEBENCH_MEMORY` is larger. The splits are this suite's: there are none that others use. A data set is
    known by its variant, 'mpi3d_real'.

    Reference:
        Gondal et al. 2019, https://arxiv.org/abs/1906.03292; https://github.com/rr-learning/disentanglement_dataset.

    Args:
        variant: 'toy', 'realistic' or 'real'.
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    FACTORS: Mapping[str, int] = {
        "colour": 6, "shape": 6, "size": 2, "camera": 3, "background": 3, "horizontal": 40, "vertical": 40,
    }  # fmt: skip
    LABEL = "shape"
    folder: ClassVar[str] = "mpi3d"

    def __init__(
        self,
        variant: Literal["toy", "realistic", "real"] = "real",
        measure: str = "discrete256",
        batch_size: int = 128,
    ) -> None:
        super().__init__(measure, batch_size)
        self.name = f"mpi3d_{variant}"

    def grid(self) -> NDArray[np.uint8]:
        source = "https://github.com/rr-learning/disentanglement_dataset"
        path = published(self.folder, f"{self.name}.npz", source)
        arrays = read_arrays(path)
        if "images" not in arrays or arrays["images"].ndim != 4 or arrays["images"].dtype != np.uint8:
            raise UserError(f"'{path}' holds no images (n, 64, 64, 3) of uint8; put an intact copy in its place")
        return channels_first(arrays["images"], "nhwc", f"'{path}'")
