"""Images that stay in their file and are read a part at a time, so that a data set may exceed the memory."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from math import isfinite, prod
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

from vaebench.data.cache import data_folder
from vaebench.errors import UserError
from vaebench.files import remove_partial, temporary, written

MEMORY = "VAEBENCH_MEMORY"  # GiB up to which an array of images is held in memory
PART = 2**22  # bytes of levels that are read at a time


class Stored:
    """Levels in a file, (n, c, h, w) uint8, of which no more is in memory than was asked for.

    Indexing chooses images without reading them; `read` reads them, image by image where they are in no order. They are
    not read through the mapping: around an image it makes up to 2 MiB of the file resident.

    Args:
        levels: an array that is a view of all rows of a memory-mapped file, each of which is one piece of it.
        order: places of the chosen images in it; None: all, in their order.
    """

    def __init__(self, levels: NDArray[np.uint8], order: NDArray[np.int64] | None = None) -> None:
        whole = _mapped(levels)
        assert whole is not None
        self._levels, self._order = levels, order
        self._start = whole.offset + levels.ctypes.data - whole.ctypes.data
        self._file = _File(whole.filename)

    def __len__(self) -> int:
        return len(self._levels if self._order is None else self._order)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, c, h, w)."""
        return (len(self), *self._levels.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the chosen images."""
        return len(self) * self._levels[:1].nbytes

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Stored:
        chosen = copy(self)
        vars(chosen).pop("hashes", None)
        chosen._order = (np.arange(len(self._levels)) if self._order is None else self._order)[index]
        return chosen

    def read(self, index: slice | Tensor = slice(None)) -> Tensor:
        """The images at some places, (b, c, h, w) uint8, in memory."""
        places = index.numpy() if isinstance(index, Tensor) else np.arange(len(self))[index]
        places = places if self._order is None else self._order[places]
        size = self._levels.strides[0]
        rows = np.empty((len(places), size), np.uint8)
        breaks = np.flatnonzero(np.diff(places) != 1) + 1  # between images that do not follow one another in the file
        for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(places)], strict=True):
            self._fill(rows[first:last], int(places[first]) * size)
        shape, strides = self._levels.shape[1:], self._levels.strides[1:]
        view = np.lib.stride_tricks.as_strided(rows, (len(rows), *shape), (size, *strides))
        return torch.from_numpy(np.ascontiguousarray(view))

    def _fill(self, rows: NDArray[np.uint8], at: int) -> None:
        left = rows.data.cast("B") if rows.size else memoryview(b"")
        while len(left):
            count = os.preadv(self._file.descriptor, [left], self._start + at)
            if not count:
                raise UserError(
                    f"'{self._file.path}' became shorter while its images were read: expected it to stay as it was; "
                    "put it back, and begin again"
                )
            left, at = left[count:], at + count

    @cached_property
    def hashes(self) -> NDArray[np.int64]:
        """A number for each image; see `vaebench.data._checks.row_hashes`."""
        return np.fromiter((hash(row.tobytes()) for part in parts(self) for row in part.numpy()), np.int64, len(self))


class _File:
    """A file that is open as long as there are images that are read from it, whatever becomes of its name."""

    def __init__(self, path: Any) -> None:
        self.path, self.descriptor = path, os.open(path, os.O_RDONLY)
        finalize(self, os.close, self.descriptor)


Stack = Tensor | Stored
"""Levels of a split, (n, c, h, w) uint8, in memory or in a file."""


def as_stored(levels: NDArray[np.uint8]) -> NDArray[np.uint8] | Stored:
    """Levels (n, c, h, w), stored ones where they are the view of a file."""
    return levels if mapping(levels) is None else Stored(levels)


def in_memory(images: Stack) -> Tensor:
    """All levels as a tensor."""
    return images if isinstance(images, Tensor) else images.read()


def parts(images: Stack) -> Iterator[Tensor]:
    """Consecutive images, (b, c, h, w), `PART` bytes of levels at a time and at least one image."""
    step = rows_of_a_part(images)
    for start in range(0, len(images), step):
        span = slice(start, start + step)
        yield images[span] if isinstance(images, Tensor) else images.read(span)


def rows_of_a_part(images: Stack) -> int:
    """Images in each of `parts` but the last."""
    return max(1, PART // max(1, int(np.prod(images.shape[1:]))))


def spans(array: Any) -> Iterator[slice]:
    """Consecutive rows of an array, `PART` bytes at a time and at least one."""
    step = max(1, PART // max(1, array[:1].nbytes))
    return (slice(at, min(at + step, len(array))) for at in range(0, len(array), step))


def on_device(images: Stack, device: torch.device) -> Stack:
    """Levels on the device, as long as they leave half of its free memory; else where they are.

    The CPU's images stay where they are: `limit` has decided.
    """
    if device.type == "cpu":
        return images
    if images.nbytes > PART and device.type == "cuda" and images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return images
    if isinstance(images, Tensor):
        return images.to(device)
    there, at = torch.empty(images.shape, dtype=torch.uint8, device=device), 0
    for part in parts(images):
        there[at : at + len(part)] = part
        at += len(part)
    return there


def mapping(array: Any) -> mmap.mmap | None:
    """The memory-mapped file that an array is a view of; None where it lies in memory."""
    whole = _mapped(array)
    return None if whole is None else whole.base


def _mapped(array: Any) -> Any:
    """The `np.memmap` that an array is a view of; None where it lies in memory."""
    while isinstance(array, np.ndarray):
        if isinstance(array.base, mmap.mmap):
            return array
        array = array.base
    return None


def release(mapped: mmap.mmap | None) -> None:
    """Gives up the memory of what was read of a file; it is read again where it is asked for again."""
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def limit() -> int:
    """Bytes up to which an array of images is held in memory: `VAEBENCH_MEMORY` in GiB, by default 1.

    Raises:
        UserError: the variable is no number.
    """
    given = os.environ.get(MEMORY, "1")
    try:
        gib = float(given)
    except ValueError:
        gib = -1.0
    if not (isfinite(gib) and gib >= 0):
        raise UserError(f"{MEMORY} is '{given}': expected a number of GiB, at least 0; set it to one such as 0.5")
    return int(gib * 2**30)


def kept_at(*what: Any) -> Path:
    """Where an array that is made of files is kept: one path for the same files and settings.

    Args:
        what: files, of which path, size and time of the last change count, and settings.
    """
    facts = []
    for one in what:
        if isinstance(one, Path):
            stat = one.stat()
            one = (str(one.absolute()), stat.st_size, stat.st_mtime_ns)
        facts.append(repr(one))
    return data_folder("decoded") / f"{hashlib.sha256(chr(10).join(facts).encode()).hexdigest()[:32]}.npy"


def opened_again(kept: Path) -> NDArray[Any] | None:
    """An array that was kept before, memory-mapped; None where there is none, or no whole one."""
    try:
        return np.load(kept, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None


def spooled(chunks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: Any, kept: Path) -> NDArray[Any]:
    """An array written to a file part after part, and memory-mapped.

    Args:
        chunks: its consecutive parts along the first axis.
        shape: of the whole.
        dtype: of the whole.
        kept: its file.

    Raises:
        UserError: the disk has no room for it, or the folder cannot be written to.
    """
    with keeping(kept) as file:
        _write(file, chunks, shape, dtype)
    return np.load(kept, mmap_mode="r", allow_pickle=False)


def gathered(
    chunks: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], keep: Callable[[], Path] | None = None
) -> NDArray[np.uint8] | Stored:
    """Levels in memory, or in a file where they are more than `limit`.

    Args:
        chunks: their consecutive parts.
        shape: (n, c, h, w) of the whole.
        keep: says where that file stays, so that they need not be made again; None: it goes with the images.

    Raises:
        UserError: as `spooled`.
    """
    if prod(shape) > limit():
        kept = None if keep is None else keep()
        before = None if kept is None else opened_again(kept)
        return Stored(before) if before is not None and before.shape == shape else stored(chunks, shape, kept)
    out, at = np.empty(shape, np.uint8), 0
    for chunk in chunks:
        out[at : at + len(chunk)] = chunk
        at += len(chunk)
    return out


def stored(levels: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], kept: Path | None) -> Stored:
    """Levels written to a file part after part, which goes with the images where it is not kept; see `spooled`."""
    if kept is not None:
        return Stored(spooled(levels, shape, np.uint8, kept))
    with keeping() as file:
        _write(file, levels, shape, np.uint8)
        return Stored(np.load(file.name, mmap_mode="r", allow_pickle=False))


def _write(file: Any, chunks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: Any) -> None:
    write_array_header_1_0(file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
    for chunk in chunks:
        file.write(np.ascontiguousarray(chunk, dtype).data)
    file.flush()


@contextmanager
def keeping(kept: Path | None = None) -> Iterator[Any]:
    """A new file, open for writing, that gets its place once the block has ended; without one it goes then.

    Removes what processes that were killed have left unfinished.

    Args:
        kept: its place, as `kept_at` says it.

    Raises:
        UserError: the disk has no room for it, or the folder cannot be written to.
    """
    folder = data_folder("decoded")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial(folder)
        if kept is None:
            with temporary(folder / "given.npy") as file:
                yield file
        else:
            with written(kept) as file:
                yield file
    except OSError as error:
        reason = "no room on its disk" if error.errno == errno.ENOSPC else error.strerror
        raise UserError(
            f"images larger than {MEMORY} cannot be kept in '{folder}' ({reason}): expected space for all of them; "
            f"free some, point VAEBENCH_DATA at another disk, or raise {MEMORY} where they fit into memory"
        ) from error
