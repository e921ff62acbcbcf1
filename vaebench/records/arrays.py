"""Metrics of every test image, in `per_image.npz`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.errors import UNREADABLE, printable
from vaebench.files import open_file
from vaebench.records import fields

PER_IMAGE = "per_image.npz"


INDEX, ORDER = "index", "order"  # arrays of `per_image.npz` that are not metrics


IN_ORDER = "row i is image i of the test split, which is image index[i] of the data set's source, from 0"


LARGEST = 2**28  # unpacked size, bytes


BAD_ARRAYS = (*UNREADABLE, zipfile.BadZipFile, MemoryError)


def read_arrays(directory: Path) -> dict[str, np.ndarray]:
    """The arrays of the record in a folder, which may be untrusted.

    Raises:
        BAD_ARRAYS: there are none, or they unpack to more than `LARGEST` bytes.
    """
    with open_file(directory, PER_IMAGE) as file, zipfile.ZipFile(file) as members:
        if (size := sum(member.file_size for member in members.infolist())) > LARGEST:
            raise ValueError(f"it unpacks to {size:,} bytes")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)


_TYPES: dict[str, Any] = {INDEX: np.integer, ORDER: np.str_}


def misshapen(directory: Path) -> str | None:
    """Why a file does not hold metrics of images, (n,), their index and their order; None where it does."""
    try:
        arrays = read_arrays(directory)
    except BAD_ARRAYS:
        return "holds no arrays"
    odd = [
        name
        for name, array in arrays.items()
        if not np.issubdtype(array.dtype, _TYPES.get(name, np.floating)) or array.ndim != (name != ORDER)
    ]
    if odd:
        return f"holds '{printable(odd[0])}', which is of another type or shape"
    large = [name for name, array in arrays.items() if array.dtype.kind == "f" and _beyond(array)]
    return f"holds a number beyond {fields.LARGEST:g} in '{printable(large[0])}'" if large else None


def _beyond(array: np.ndarray) -> bool:
    """Whether squares of the finite numbers cannot be summed; other numbers are no figures anyway."""
    return array.dtype.itemsize > 4 and bool(np.any(np.abs(array[np.isfinite(array)]) > fields.LARGEST))
