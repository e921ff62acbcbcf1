"""ImageNet at 32 × 32 and 64 × 64."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._factors import published
from vaebench.data.arrays import read_arrays
from vaebench.data.base import ImageData, Split, carve
from vaebench.errors import UserError

SOURCE = "https://image-net.org/download-images (downsampled, npz)"


@final
class ImageNet(ImageData):
    """Downsampled ImageNet: 3 × 32 × 32 or 3 × 64 × 64, with labels 0 to 999; 1,231,167 / 50,000 / 50,000.

    `train_data_batch_1.npz` to `_10.npz` and `val_data.npz` are read from the folder `imagenet32` or `imagenet64`; the
    pickled version is not, for a pickle is code. The publishers' validation images are the test split here, and the
    last 50,000 of those of training the validation split. There are other downsampled versions (van den Oord et al.
    2016), whose figures are not comparable.

    Reference:
        Chrabaszcz, Loshchilov & Hutter 2017, https://arxiv.org/abs/1707.08819.

    Args:
        size: 32 or 64.
        measure: 'discrete256', 'continuous' or 'binary'.
        batch_size: images a batch and process.
    """

    levels = 256
    measures = ("discrete256", "continuous", "binary")
    held_out: ClassVar[int] = 50_000
    files: ClassVar[int] = 10

    def __init__(self, size: Literal[32, 64] = 32, measure: str = "discrete256", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)
        self.size, self.name = size, f"imagenet{size}"

    def raw(self) -> Mapping[str, Split]:
        parts = [self._read(f"train_data_batch_{number}.npz") for number in range(1, self.files + 1)]
        images, labels = (np.concatenate(one) for one in zip(*parts, strict=True))
        return carve(images, labels, train=-1, val=self.held_out) | carve(*self._read("val_data.npz"), test=-1)

    def _read(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        path: Path = published(self.name, name, SOURCE)
        arrays, pixels = read_arrays(path), 3 * self.size**2
        if not {"data", "labels"} <= arrays.keys() or arrays["data"].shape[1:] != (pixels,):
            raise UserError(
                f"'{path}' holds no data (n, {pixels:,}) with labels: expected {self.size} × {self.size} pixels, "
                "channels first; put an intact copy in its place"
            )
        return arrays["data"].reshape(-1, 3, self.size, self.size), arrays["labels"].astype(np.int64) - 1
