"""Omniglot at 28 × 28."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data import cache
from vaebench.data.base import ImageData, Split, carve, shuffled
from vaebench.data.cache import DamagedError, File
from vaebench.data.formats import matlab

SIDE = 28


@final
class Omniglot(ImageData):
    """Omniglot as the VAE papers use it: handwritten characters, 1 × 28 × 28; 23,000 / 1,345 / 8,070.

    The labels are the 50 alphabets. The validation split is what Burda et al. hold out: the last 1,345 of the 24,345
    training images after they were shuffled with their seed, 123. The file holds grey values in [0, 1], which are
    probabilities of ink here; they are rounded to multiples of 1/255. Bits are drawn anew in every training batch.

    Reference:
        Lake, Salakhutdinov & Tenenbaum 2015, https://doi.org/10.1126/science.aab3050; this version is from
        Burda, Grosse & Salakhutdinov 2016, https://github.com/yburda/iwae. The checksum is the file's id in that
        repository.

    Args:
        measure: 'binary'.
        batch_size: images per batch and process.
    """

    levels = 256
    measures = ("binary",)
    validation: ClassVar[int] = 1_345
    file: ClassVar[File] = File(
        "chardata.mat",
        "https://raw.githubusercontent.com/yburda/iwae/78a6075484bd7dd6f47a4bb9880d2295bc7a5220/datasets/OMNIGLOT/chardata.mat",
        "git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
    )

    def __init__(self, measure: str = "binary", batch_size: int = 128) -> None:
        super().__init__(measure, batch_size)

    def raw(self) -> Mapping[str, Split]:
        (images, labels), test = cache.obtain(self.name, self.file, _characters)
        order = shuffled(len(images), seed=123)
        train = carve(images[order], labels[order], order, train=-1, val=self.validation)
        return train | carve(*test, test=-1)


def _characters(content: bytes) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    data, target, testdata, testtarget = matlab(content, "data", "target", "testdata", "testtarget")
    return _pair(data, target), _pair(testdata, testtarget)


def _pair(data: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 1, 28, 28) and alphabets (n,) from one image a column, columns first, and one-hot columns."""
    if data.ndim != 2 or len(data) != SIDE * SIDE:
        raise DamagedError(f"holds images of shape {data.shape} where ({SIDE * SIDE}, n) was expected")
    if target.ndim != 2 or target.shape[1] != data.shape[1]:
        raise DamagedError(f"lacks labels: expected {data.shape[1]:,} columns, one an image, and found {target.shape}")
    if data.min() < 0 or data.max() > 1:
        raise DamagedError(f"holds values from {data.min()} to {data.max()} where 0 to 1 were expected")
    images = np.rint(data.T * 255).astype(np.uint8).reshape(-1, 1, SIDE, SIDE).swapaxes(2, 3)
    return images, target.argmax(0)
