"""Frey faces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data import cache
from vaebench.data.base import ImageData, Split, carve, shuffled
from vaebench.data.cache import DamagedError, File
from vaebench.data.formats import matlab

ROWS, COLUMNS = 28, 20


@final
class FreyFaces(ImageData):
    """Frey faces: frames of a video of one face, 1 × 28 × 20, 256 grey levels, no labels; 1,565 / 200 / 200.

    Neighbouring frames resemble one another, so the 1,965 are shuffled with a fixed seed before they are split; the
    sizes are those of Tomczak & Welling 2018 (https://arxiv.org/abs/1705.07120), the members are not. No checksum of
    the published MATLAB file is known; the one here is of the frames in it, in their order, row by row.

    Reference:
        Roweis, Saul & Hinton 2002, https://cs.nyu.edu/~roweis/data.html.

    Args:
        measure: 'discrete256' or 'continuous'.
        batch_size: images per batch and process.
    """

    levels = 256
    measures = ("discrete256", "continuous")
    held_out: ClassVar[int] = 200
    file: ClassVar[File] = File("frey_rawface.mat", "https://cs.nyu.edu/~roweis/data/frey_rawface.mat")
    checksum: ClassVar[str] = "sha256:2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"

    def __init__(self, measure: str = "discrete256", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        frames = cache.obtain(self.name, self.file, self._frames)
        order = shuffled(len(frames))
        mixed = frames[order].reshape(-1, 1, ROWS, COLUMNS)
        return carve(mixed, None, order, train=-1, val=self.held_out, test=self.held_out)

    def _frames(self, content: bytes) -> NDArray[np.generic]:
        (ff,) = matlab(content, "ff")
        if ff.ndim != 2 or len(ff) != ROWS * COLUMNS or ff.dtype != np.uint8:
            raise DamagedError(f"holds ff of {ff.dtype} {ff.shape} where uint8 ({ROWS * COLUMNS}, n) was expected")
        cache.check_checksum(ff.T.tobytes(), self.checksum)
        return ff.T
