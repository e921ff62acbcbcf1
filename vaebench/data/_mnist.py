"""What MNIST and Fashion-MNIST share: four idx files, of which the last training images are kept for validation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vaebench.data import cache
from vaebench.data.base import Split, carve
from vaebench.data.cache import File
from vaebench.data.formats import idx
from vaebench.errors import UserError

SIDE = 28


def files(address: str, checksums: Mapping[str, str], installed: str | None = None) -> tuple[File, ...]:
    """The four files.

    Args:
        address: under which they are published as .gz.
        checksums: of the uncompressed files, by name.
        installed: the folder where a package of the system puts them as .gz; None where none does.
    """
    return tuple(
        File(name, f"{address}{name}.gz", checksum, f"{installed}/{name}.gz" if installed else None)
        for name, checksum in checksums.items()
    )


def splits(dataset: str, four: tuple[File, ...], validation: int) -> dict[str, Split]:
    """The three splits from (train images, train labels, test images, test labels)."""
    train_images, train_labels, test_images, test_labels = four
    train = _pair(dataset, train_images, train_labels)
    return carve(*train, train=-1, val=validation) | carve(*_pair(dataset, test_images, test_labels), test=-1)


def _pair(dataset: str, images: File, labels: File) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    x = cache.obtain(dataset, images, partial(idx, shape=(SIDE, SIDE)))
    y = cache.obtain(dataset, labels, partial(idx, shape=()))
    if len(x) != len(y):
        raise UserError(
            f"{cache.data_folder(dataset) / labels.name} lacks labels: expected {len(x):,}, one for each image of "
            f"{images.name}, and found {len(y):,}; delete both to have them downloaded again"
        )
    return x[:, None], y
