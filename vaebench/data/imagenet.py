"""ImageNet at 32 × 32 and 64 × 64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._factors import published
from vaebench.data._stored import Stored, gathered, kept_at
from vaebench.data.base import ImageData, Split, carve
from vaebench.data.cache import intact
from vaebench.data.formats import npz, npz_rows
from vaebench.errors import UserError

SOURCE = "https://image-net.org/download-images (downsampled, npz)"


@final
class ImageNet(ImageData):
    """Downsampled ImageNet: 3 × 32 × 32 or 3 × 64 × 64, with labels 0 to 999; 1,231,167 / 50,000 / 50,000.

    `train_data_batch_1.npz` to `_10.npz` and `val_data.npz` are read from the folder `imagenet32` or `imagenet64`; the
    pickled version is not, for a pickle is code. They are read a part at a time, and stay in a file (64 × 64: 16 GB),
    unless `VAEBENCH_MEMORY` is larger. The publishers' validation images are the test split here, and the
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
        batches = [f"train_data_batch_{number}.npz" for number in range(1, self.files + 1)]
        return carve(*self._read(batches), train=-1, val=self.held_out) | carve(*self._read(["val_data.npz"]), test=-1)

    def _read(self, names: Sequence[str]) -> tuple[NDArray[np.uint8] | Stored, NDArray[np.int64]]:
        """Images and labels of consecutive files, which are read a part at a time."""
        paths, shape = [published(self.name, name, SOURCE) for name in names], (3, self.size, self.size)
        labels = [self._labels(path) for path in paths]

        def chunks() -> Iterator[NDArray[np.uint8]]:
            for path in paths:
                with intact(path):
                    for rows in npz_rows(path, "data")[1]:
                        yield rows.reshape(-1, *shape)

        images = gathered(chunks(), (sum(map(len, labels)), *shape), lambda: kept_at("imagenet", *paths))
        return images, np.concatenate(labels)

    def _labels(self, path: Path) -> NDArray[np.int64]:
        """The labels of a file, one for each of its images."""
        with intact(path):
            shape, _ = npz_rows(path, "data")
            labels = npz(path, ("data.npy",)).get("labels", np.empty(0))
        if shape[1:] != (3 * self.size**2,) or labels.shape != shape[:1]:
            raise UserError(
                f"'{path}' holds data of shape {shape} and labels of shape {labels.shape}: expected (n, "
                f"{3 * self.size**2:,}), {self.size} × {self.size} pixels with channels first, and (n,); put an intact "
                "copy in its place"
            )
        return labels.astype(np.int64) - 1
