"""The file formats that data sets are published in: from uncompressed bytes to arrays, or a `DamagedError`."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.typing import NDArray

from vaebench.data._stored import PART
from vaebench.data.cache import DamagedError

Bytes = NDArray[np.uint8]


def idx(content: bytes, shape: tuple[int, ...]) -> Bytes:
    """LeCun's idx format with unsigned bytes (http://yann.lecun.com/exdb/mnist): (n, *shape) uint8.

    Args:
        content: a whole file.
        shape: of one item: (28, 28) for an image, () for a label.
    """
    dimensions = len(shape) + 1
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise DamagedError(f"does not begin like an idx file of unsigned bytes in {dimensions} dimensions")
    n, *sizes = struct.unpack(f">{dimensions}I", content[4:start])
    if tuple(sizes) != shape:
        raise DamagedError(f"holds items of shape {tuple(sizes)} where {shape} was expected")
    _whole(content, start + n * prod(shape))
    return np.frombuffer(content, np.uint8, offset=start).reshape(n, *shape)


def amat(content: bytes, pixels: int) -> Bytes:
    """Larochelle's text of binary images, one a line, digits and single blanks: (n, pixels) uint8 of 0 and 1."""
    line = content.find(b"\n") + 1
    if line != 2 * pixels:
        raise DamagedError(f"has {line // 2} values in its first line where {pixels} were expected")
    if len(content) % line:
        raise DamagedError(f"is truncated: expected whole lines of {line:,} bytes and found {len(content):,} bytes")
    digit, blank = np.moveaxis(np.frombuffer(content, np.uint8).reshape(-1, pixels, 2), 2, 0)
    if (blank[:, :-1] != ord(" ")).any() or (blank[:, -1] != ord("\n")).any() or ((digit | 1) != ord("1")).any():
        raise DamagedError("holds something else than lines of 0 and 1 with a blank between them")
    bits: Bytes = digit & np.uint8(1)
    return bits


def matlab(content: bytes, *names: str) -> list[NDArray[np.generic]]:
    """The named variables of a MATLAB file, version 4 to 7.2."""
    import scipy.io

    try:
        variables = scipy.io.loadmat(io.BytesIO(content), variable_names=list(names))
    except Exception as error:  # scipy raises whatever its parser meets: TypeError, zlib.error, IndexError, …
        raise DamagedError(f"is no intact MATLAB file ({type(error).__name__})") from error
    missing = [name for name in names if name not in variables]
    if missing:
        raise DamagedError(f"holds no variable '{missing[0]}' where {', '.join(names)} were expected")
    return [variables[name] for name in names]


def cifar(content: bytes) -> tuple[Bytes, Bytes]:
    """Krizhevsky's binary records of a label and 32 × 32 RGB pixels: images (n, 3, 32, 32) and labels (n,), uint8."""
    record = 1 + 3 * 32 * 32
    if not content or len(content) % record:
        raise DamagedError(f"is truncated: expected records of {record:,} bytes each and found {len(content):,} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    if records[:, 0].max() > 9:
        raise DamagedError(f"holds no CIFAR-10 records: a label of {records[:, 0].max()} where 0 to 9 were expected")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def archive(content: bytes) -> dict[str, bytes]:
    """The files of a tar archive, compressed or not, by their path in it."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = [(member.name, tar.extractfile(member)) for member in tar.getmembers() if member.isfile()]
            return {name.removeprefix("./"): file.read() for name, file in members if file}
    except EOFError as error:
        raise DamagedError(f"is truncated: expected a whole archive and found {len(content):,} bytes of it") from error
    except (tarfile.TarError, zlib.error, OSError) as error:
        raise DamagedError("is no intact tar archive") from error


def norb(content: bytes) -> NDArray[np.generic]:
    """LeCun's binary matrix format with bytes or whole numbers (https://cs.nyu.edu/~ylclab/data/norb-v1.0-small)."""
    kinds = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4"}
    magic, dimensions = struct.unpack("<2I", content[:8].ljust(8, b"\0"))
    if magic not in kinds or not 1 <= dimensions <= 5:
        raise DamagedError("does not begin like a binary matrix of bytes or whole numbers")
    stored = max(3, dimensions)  # sizes, of which the last are 1 for fewer dimensions
    start = 8 + 4 * stored
    if len(content) < start:
        raise DamagedError(f"is truncated: expected a head of {start} bytes and found {len(content)}")
    shape = struct.unpack(f"<{stored}I", content[8:start])[:dimensions]
    _whole(content, start + prod(shape) * np.dtype(kinds[magic]).itemsize)
    return np.frombuffer(content, kinds[magic], offset=start).reshape(shape)


def npz(content: bytes | Path, but: Container[str] = ()) -> dict[str, NDArray[np.generic]]:
    """The arrays of a .npz file of numpy's by name; those that need pickle, which runs code, are left out.

    Args:
        content: the file, or its bytes.
        but: members of the archive that are not read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content) as packed:
            members = {name.removesuffix(".npy"): name for name in packed.namelist() if name.endswith(".npy")}
            return {name: array for name, member in members.items() if member not in but
                    and (array := _plain(packed.open(member))) is not None}  # fmt: skip
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise DamagedError("is no intact .npz file of numpy's") from error


def head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type of an array in the .npy format, of which the head is read."""
    version = read_magic(file)
    return (read_array_header_1_0 if version == (1, 0) else read_array_header_2_0)(file)


def _plain(file: IO[bytes]) -> NDArray[np.generic] | None:
    """An array of numbers in the .npy format; None where it holds objects."""
    with file:
        shape, fortran, kind = head(file)
        if kind.hasobject:
            return None
        flat = np.empty(prod(shape), kind)
        left = flat.view(np.uint8).data if flat.size else memoryview(b"")
        while len(left):
            if not (count := file.readinto(left[:PART])):  # type: ignore[attr-defined]
                raise EOFError("an array ends before its head says")
            left = left[count:]
        if file.read(1):
            raise ValueError("an array is longer than its head says")
        return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def npz_rows(path: Path, name: str) -> tuple[tuple[int, ...], Iterator[NDArray[Any]]]:
    """The shape of an array of a .npz file, and its rows, `PART` bytes at a time and at least one.

    Raises:
        DamagedError: at once, or when the rows are read: it is no intact file, or has no such array of numbers.
    """
    with _member(path, name) as (_, shape, _):
        pass

    def rows() -> Iterator[NDArray[Any]]:
        with _member(path, name) as (file, shape, kind):
            size = prod(shape[1:]) * kind.itemsize
            step = max(1, PART // max(1, size))
            for start in range(0, shape[0], step):
                wanted = min(step, shape[0] - start) * size
                if len(content := file.read(wanted)) < wanted:
                    raise EOFError("an array ends before its head says")
                yield np.frombuffer(content, kind).reshape(-1, *shape[1:])
            if file.read(1):  # which also compares the checksum
                raise ValueError("an array is longer than its head says")

    return shape, rows()


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    try:
        with zipfile.ZipFile(path) as packed, packed.open(f"{name}.npy") as file:
            shape, fortran, kind = head(file)
            if kind.hasobject or fortran or not shape:
                raise ValueError("an array of objects, in Fortran's order or of no axes")
            yield file, shape, kind
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError) as error:
        raise DamagedError(f"is no intact .npz file of numpy's with an array '{name}' of numbers") from error


def _whole(content: bytes, expected: int) -> None:
    if len(content) < expected:
        raise DamagedError(f"is truncated: expected {expected:,} bytes when unpacked and found {len(content):,}")
    if len(content) > expected:
        raise DamagedError(f"is too long: expected {expected:,} bytes when unpacked and found {len(content):,}")
