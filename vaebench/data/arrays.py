"""Arrays of one's own."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._checks import as_labels
from vaebench.data._own import RANGES, SPELLINGS, Cut, Duplicates, Images, OwnImages, title_of
from vaebench.data._prepare import Layout, channels_first, quantised, require_span
from vaebench.data._stored import PART, Stored, keeping, kept_at, limit, mapping, opened_again, release, spans, spooled
from vaebench.data.cache import DamagedError
from vaebench.data.formats import head, npz
from vaebench.errors import UserError, extra
from vaebench.ranges import Range

Named = dict[str, NDArray[Any]]
ENDINGS = (".npy", ".npz", ".h5", ".hdf5", ".safetensors")


@final
class Arrays(OwnImages):
    """Arrays of one's own: .npy, .npz, HDF5 or .safetensors, with levels, or values whose range is given.

    A file has an array `images` and perhaps `labels`, or `train`, `test` and perhaps `val` with `train_labels` and so
    on; a folder has files of those names (`train.npy`, `train_labels.npy`). What has no splits is split by `lists`, or
    by a seed. Images are (n, height, width), or have their channels first or last. Arrays of more than
    `VAEBENCH_MEMORY` GiB (1) stay in their file, or in one that is made of it once.

    Args:
        path: the file or folder, from the working folder or absolute.
        measure: 'discreteN' of N levels, 'continuous' or 'binary'.
        batch_size: images a batch and process.
        levels: N; 17 stands for values from 0 to 16.
        range: values of black and white, such as [0, 1], of arrays that hold no levels: the nearest level is taken.
        layout: 'nchw' or 'nhwc', where the shape does not say it.
        images, labels: names of the arrays in a file without splits.
        val, test: shares of the images in the validation and the test split, where there are none.
        split_seed: of the split.
        lists: a folder beside the file, or in the folder of files, that has the splits as text files, `train.txt`,
            `test.txt` and perhaps `val.txt`, with the place of an image in `images`, from 0, a line.
        duplicates: what becomes of images that stand in two splits: 'refuse', 'drop' or 'keep'.
    """

    PLACES: ClassVar[tuple[str, ...]] = ("path",)
    RANGES: ClassVar[Mapping[str, Range]] = RANGES

    def __init__(
        self,
        path: str | None = None,
        measure: str = "discrete256",
        batch_size: int = 128,
        levels: int = 256,
        range: list[float] | None = None,
        layout: Layout | None = None,
        images: str = "images",
        labels: str = "labels",
        val: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
        lists: str | None = None,
        duplicates: Duplicates = "refuse",
    ) -> None:
        cut = Cut(val, test, split_seed, duplicates)
        super().__init__(title_of(path), path, measure, batch_size, levels, cut, lists)
        self.span, self.layout, self.keys = require_span(range), layout, (images, labels)

    def read(self) -> Mapping[str, Images]:
        path = self.found("path")
        arrays = read_arrays(path)
        images, labels = self.keys
        if set(arrays) == {path.stem}:  # one array without a name, in a .npy file
            arrays = {images: arrays[path.stem]}
        chosen = self.listed(path if path.is_dir() else path.parent)
        if images in arrays:
            whole = self._pair(arrays, images, labels, path)
            return {split: _chosen(whole, lines) for split, lines in chosen.items()} or {"": whole}
        if chosen:
            raise UserError(
                f"'{path}' has no array '{images}' that data.lists could split; set data.images to its name, or leave "
                "out the lists"
            )
        splits = {name: self._pair(arrays, name, f"{name}_labels", path) for name in SPELLINGS if name in arrays}
        if not splits:
            raise UserError(
                f"'{path}' has the arrays {', '.join(sorted(arrays)) or 'none'}: expected '{images}', or train and "
                "test; set data.images to the name of one, and data.labels where there are some"
            )
        return splits

    def _pair(self, arrays: Named, images: str, labels: str, path: Path) -> Images:
        what = f"the images '{images}' of '{path}'"
        array = channels_first(arrays[images], self.layout, what)
        return Images(self._quantised(array, what, path), arrays.get(labels))

    def _quantised(self, array: NDArray[Any], what: str, path: Path) -> NDArray[np.uint8] | Stored:
        if (mapped := mapping(array)) is None:
            return quantised(array, self.span, self.levels, what)
        if array.dtype == np.uint8 and self.span is None:
            return Stored(array)
        files = [path] if path.is_file() else sorted(path.iterdir())
        kept = kept_at("levels", what, self.span, self.levels, self.layout, *files)
        if (levels := opened_again(kept)) is None:

            def chunks() -> Iterator[NDArray[np.uint8]]:
                for rows in spans(array):
                    yield quantised(array[rows], self.span, self.levels, what)
                    release(mapped)

            levels = spooled(chunks(), array.shape, np.uint8, kept)
        return Stored(levels)


def _chosen(images: Images, lines: Sequence[str]) -> Images:
    """The images at the places that a list has, in their order.

    Raises:
        UserError: a line is no place of an image.
    """
    n = len(images.levels)
    for line in lines:
        if not re.fullmatch("0|[1-9][0-9]{0,17}", line) or int(line) >= n:
            raise UserError(
                f"a list of data.lists has the line '{line}': expected places of the {n:,} images, from 0 to {n - 1}, "
                "one a line; mend it"
            )
    index = np.sort(np.asarray(lines, np.int64))
    return Images(images.levels[index], None if images.labels is None else as_labels(images.labels, n)[index])


def read_arrays(path: Path) -> Named:
    """All arrays of a file, or of the files of a folder, by name: the file's where it has none of its own.

    Those of more bytes than `limit` are memory-mapped: in the file itself where they lie in it as they are, else in one
    into which they are unpacked once.

    Raises:
        UserError: it is of another kind or damaged, or the library that reads it is not installed.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix == ".npy"]
        if not files:
            raise UserError(f"'{path}' holds no .npy files: expected train.npy and test.npy; mend data.path")
        return {file.stem: read_arrays(file)[file.stem] for file in files}
    most = limit()
    try:
        if path.suffix == ".npy":
            return {path.stem: _npy(path, most)}
        if path.suffix == ".npz":
            return _npz(path, most)
    except (DamagedError, ValueError, EOFError) as error:
        reason = str(error) if isinstance(error, DamagedError) else "is no intact .npy file of plain numbers"
        raise UserError(f"'{path}' {reason}; put an intact copy in its place") from error
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5(path, most)
    if path.suffix == ".safetensors":
        return _safetensors(path, most)
    raise UserError(f"'{path}' is of a kind that is not read: expected {', '.join(ENDINGS)}; convert it")


def _npy(path: Path, most: int) -> NDArray[Any]:
    array = np.load(path, mmap_mode="r" if path.stat().st_size > most else None, allow_pickle=False)
    return array if mapping(array) is None or array.flags.c_contiguous else np.array(array, order="C")


def _npz(path: Path, most: int) -> Named:
    """The arrays of a .npz file; large ones are unpacked into a file each, for most are compressed."""
    try:
        with zipfile.ZipFile(path) as packed:
            large = {one.filename: one for one in packed.infolist() if one.file_size > most and _plain(packed, one)}
            arrays = npz(path, tuple(large))
            for name in large:
                kept = kept_at("npz", path, name)
                if opened_again(kept) is None:
                    with packed.open(name) as member, keeping(kept) as file:
                        shutil.copyfileobj(member, file, PART)
                arrays[name.removesuffix(".npy")] = _npy(kept, most)
            return arrays
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DamagedError("is no intact .npz file of numpy's") from error


def _plain(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a member of a .npz file is an array of numbers; `npz` leaves all others out."""
    with packed.open(member) as file:
        return member.filename.endswith(".npy") and not head(file)[2].hasobject


def _hdf5(path: Path, most: int) -> Named:
    """The arrays at the top of an HDF5 file."""
    with extra("hdf5", f"'{path}'"):
        import h5py
    try:
        with h5py.File(path, "r") as file:
            return {name: _dataset(path, file[name], most) for name in file if isinstance(file[name], h5py.Dataset)}
    except OSError as error:
        raise UserError(f"'{path}' is no intact HDF5 file ({error}); put an intact copy in its place") from error


def _dataset(path: Path, dataset: Any, most: int) -> NDArray[Any]:
    """An array of an HDF5 file, of h5py's `Dataset`; one in chunks is unpacked where it is large."""
    if dataset.nbytes <= most:
        return np.asarray(dataset)
    if (offset := dataset.id.get_offset()) is not None:
        return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
    kept = kept_at("hdf5", path, dataset.name)
    if (unpacked := opened_again(kept)) is None:
        unpacked = spooled((dataset[rows] for rows in spans(dataset)), dataset.shape, dataset.dtype, kept)
    return unpacked


NUMBERS = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
         "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}  # fmt: skip
"""The types of a safetensors file that numpy has."""


def _safetensors(path: Path, most: int) -> Named:
    """The tensors of a file, of the kinds of numbers that numpy has."""
    with extra("safetensors", f"'{path}'"):
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import load_file
    try:
        if path.stat().st_size <= most:
            return load_file(path)
        with safe_open(path, "np") as file:
            small = {name: file.get_tensor(name) for name in file.keys() if _bytes(file.get_slice(name)) <= most}  # noqa: SIM118
        return {**small, **_tensors(path, small)}
    except (SafetensorError, TypeError, KeyError) as error:
        raise UserError(
            f"'{path}' is no intact .safetensors file of numbers that numpy has ({error}); put an intact copy in its "
            "place"
        ) from error


def _bytes(tensor: Any) -> int:
    """The size of a tensor, of safetensors' slice of all of it."""
    return prod(tensor.get_shape()) * np.dtype(NUMBERS[tensor.get_dtype()]).itemsize


def _tensors(path: Path, other_than: Named) -> Named:
    """The tensors of a file, memory-mapped; `safe_open` has checked its head."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(size))
    return {
        name: np.memmap(path, NUMBERS[one["dtype"]], "r", 8 + size + one["data_offsets"][0], tuple(one["shape"]))
        for name, one in head.items()
        if name != "__metadata__" and name not in other_than
    }
