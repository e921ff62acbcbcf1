"""Cars3D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaebench.data._factors import GridImages, published
from vaebench.data._prepare import Preparation
from vaebench.data.cache import intact
from vaebench.data.formats import matlab
from vaebench.errors import UserError


@final
class Cars3D(GridImages):
    """Cars3D: renderings of 183 car models from 24 azimuths and 4 elevations, 3 × 64 × 64; 14,056 / 1,756 / 1,756.

    The published MATLAB files (`data/cars/*.mat` of the archive) are read from `$VAEBENCH_DATA/cars3d/cars`, in the
    order of their names, and resized from 128 × 128 as pictures of `folder` are. The splits are this suite's.

    Reference:
        Reed, Zhang, Zhang & Lee 2015, http://www.scottreed.info.

    Args:
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
        resize: side of the images; None keeps 128.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    FACTORS: Mapping[str, int] = {"object": 183, "azimuth": 24, "elevation": 4}
    LABEL = "object"
    folder: ClassVar[str] = "cars"

    def __init__(self, measure: str = "discrete256", batch_size: int = 128, resize: int | None = 64) -> None:
        super().__init__(measure, batch_size)
        self.preparation = Preparation(resize=resize)

    def grid(self) -> NDArray[np.uint8]:
        folder = published(self.name, self.folder, "http://www.scottreed.info (nips2015-analogy-data.tar.gz)")
        images = []
        for path in sorted(folder.glob("*.mat")):
            with intact(path):
                (mesh,) = matlab(path.read_bytes(), "im")
            expected = tuple(self.FACTORS[name] for name in ("azimuth", "elevation"))
            if mesh.ndim != 5 or mesh.shape[2:] != (3, *expected) or mesh.dtype != np.uint8:
                raise UserError(
                    f"'{path}' holds images of shape {mesh.shape}: expected (height, width, 3, azimuths, elevations) "
                    "of uint8; put an intact copy in its place"
                )
            pictures = np.moveaxis(mesh, (3, 4), (0, 1)).reshape(-1, *mesh.shape[:3])
            images += [self.preparation.levels(Image.fromarray(picture), f"'{path}'") for picture in pictures]
        if not images:
            raise UserError(f"'{folder}' holds no .mat files: expected one a car; put the archive's data/cars there")
        return np.stack(images)
