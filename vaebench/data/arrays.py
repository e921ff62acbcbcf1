"""Arrays of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from vaebench.data._own import RANGES, SPELLINGS, Cut, Duplicates, Images, OwnImages, title_of
from vaebench.data._prepare import Layout, channels_first, quantised, require_span
from vaebench.data.cache import DamagedError
from vaebench.data.formats import npz
from vaebench.errors import UserError, extra
from vaebench.ranges import Range

Named = dict[str, NDArray[Any]]
ENDINGS = (".npy", ".npz", ".h5", ".hdf5", ".safetensors")


@final
class Arrays(OwnImages):
    """Arrays of one's own: .npy, .npz, HDF5 or .safetensors, with levels, or values whose range is given.

    A file has an array `images` and perhaps `labels`, or `train`, `test` and perhaps `val` with `train_labels` and so
    on; a folder has files of those names (`train.npy`, `train_labels.npy`). What has no splits is split by a seed.
    Images are (n, height, width), or have their channels first or last.

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
        duplicates: Duplicates = "refuse",
    ) -> None:
        super().__init__(title_of(path), path, measure, batch_size, levels, Cut(val, test, split_seed, duplicates))
        self.span, self.layout, self.keys = require_span(range), layout, (images, labels)

    def read(self) -> Mapping[str, Images]:
        path = self.found("path")
        arrays = read_arrays(path)
        images, labels = self.keys
        if set(arrays) == {path.stem}:  # one array without a name, in a .npy file
            arrays = {images: arrays[path.stem]}
        if images in arrays:
            return {"": self._pair(arrays, images, labels, path)}
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
        return Images(quantised(array, self.span, self.levels, what), arrays.get(labels))


def read_arrays(path: Path) -> Named:
    """All arrays of a file, or of the files of a folder, by name: the file's where it has none of its own.

    Raises:
        UserError: it is of another kind or damaged, or the library that reads it is not installed.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix == ".npy"]
        if not files:
            raise UserError(f"'{path}' holds no .npy files: expected train.npy and test.npy; mend data.path")
        return {file.stem: read_arrays(file)[file.stem] for file in files}
    try:
        if path.suffix == ".npy":
            return {path.stem: np.load(path, allow_pickle=False)}
        if path.suffix == ".npz":
            return npz(path)
    except (DamagedError, ValueError, EOFError) as error:
        reason = str(error) if isinstance(error, DamagedError) else "is no intact .npy file of plain numbers"
        raise UserError(f"'{path}' {reason}; put an intact copy in its place") from error
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    raise UserError(f"'{path}' is of a kind that is not read: expected {', '.join(ENDINGS)}; convert it")


def _hdf5(path: Path) -> Named:
    """The arrays at the top of an HDF5 file."""
    with extra("hdf5", f"'{path}'"):
        import h5py
    try:
        with h5py.File(path, "r") as file:
            return {name: np.asarray(file[name]) for name in file if isinstance(file[name], h5py.Dataset)}
    except OSError as error:
        raise UserError(f"'{path}' is no intact HDF5 file ({error}); put an intact copy in its place") from error


def _safetensors(path: Path) -> Named:
    """The tensors of a file, of the kinds of numbers that numpy has."""
    with extra("safetensors", f"'{path}'"):
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    try:
        return load_file(path)
    except (SafetensorError, TypeError, KeyError) as error:
        raise UserError(
            f"'{path}' is no intact .safetensors file of numbers that numpy has ({error}); put an intact copy in its "
            "place"
        ) from error
