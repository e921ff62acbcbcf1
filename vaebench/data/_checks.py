"""Stored splits, and the checks on arrays that enter them: levels must be levels already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.data._stored import Stack, Stored, parts, spans
from vaebench.errors import UserError

HIGHEST = 255  # the largest level that uint8 stores
REMEDY = "store levels 0 … N − 1, such as np.rint(images * 255) of images in [0, 1]"


class Split(NamedTuple):
    """Images as they are stored.

    Attributes:
        images: levels, (n, c, h, w) uint8, in memory or in a file.
        labels: (n,) int64, or None where the data set has none.
        source: where each image stands in the source, (n,) int64; None where the splits came without.
    """

    images: Stack
    labels: Tensor | None = None
    source: Tensor | None = None


def as_levels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images (n, c, h, w) of any numeric type as uint8, where that changes no value; a copy only where one is needed.

    Raises:
        UserError: they are of another shape or type, or hold a value that is not a whole number from 0 to 255.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise UserError(
            f"images of shape {images.shape} enter a data set, where (n, channels, height, width) is expected; give "
            "them that shape, channels first"
        )
    require_levels(images)
    levels = images.astype(np.uint8, order="C", copy=False)  # kernels for channels that lie last round otherwise
    return levels if levels.flags.writeable else levels.copy()


def require_levels(images: NDArray[Any]) -> None:
    """Refuses values that are no levels.

    Raises:
        UserError: they are of another type, or one is not a whole number from 0 to 255.
    """
    if images.dtype.kind not in "buif":
        raise UserError(f"images of type {images.dtype} enter a data set, where numbers are expected; {REMEDY}")
    if images.dtype != np.uint8 and images.size:
        low, high = images.min(), images.max()  # NaN where there is one
        if not (low >= 0 and high <= HIGHEST):
            raise UserError(
                f"images of type {images.dtype} enter a data set with values from {low:g} to {high:g}, where levels "
                f"from 0 to {HIGHEST} are expected; {REMEDY}"
            )
        if images.dtype.kind == "f" and any((images[rows] != np.rint(images[rows])).any() for rows in spans(images)):
            raise UserError(
                f"images of type {images.dtype} enter a data set with values between whole numbers, from {low:g} to "
                f"{high:g}, which levels are not: casting would make them black; {REMEDY}"
            )


def as_labels(labels: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Labels of n images as int64, where that changes no value.

    Raises:
        UserError: they are not n whole numbers.
    """
    labels = np.asarray(labels)
    whole = labels.dtype.kind in "bui" or (labels.dtype.kind == "f" and bool((labels == np.rint(labels)).all()))
    if labels.shape != (n,) or not whole:
        raise UserError(
            f"labels of type {labels.dtype} and shape {labels.shape} enter a data set of {n} images, where one whole "
            "number an image is expected; give classes numbers from 0 on"
        )
    return labels.astype(np.int64)


def checked(name: str, splits: Mapping[str, Split], levels: int) -> Mapping[str, Split]:
    """The splits that a data module's `raw` gave, as they came.

    Raises:
        UserError: a split is missing or empty, its images are no levels below `levels`, its labels no whole numbers, or
            images of several levels hold none but 0 and 1.
    """
    tops = []
    for split in ("train", "val", "test"):
        if split not in splits:
            raise UserError(f"{name} has no split '{split}': expected train, val and test; return it from raw()")
        tops.append(_check_split(f"{name}'s {split} images", splits[split], levels))
    shapes = {tuple(splits[split].images.shape[1:]) for split in ("train", "val", "test")}
    if len(shapes) > 1:
        raise UserError(f"{name} has images of the shapes {sorted(shapes)}: expected one for all splits; mend raw()")
    if levels > 2 and (highest := max(tops)) <= 1:
        raise UserError(
            f"{name} has {levels} levels and no pixel above {highest}, so that its images are black; {REMEDY}, or set "
            "levels to 2 where they are 0 and 1"
        )
    return splits


APART = (("test", "train"), ("test", "val"), ("val", "train"))  # pairs of splits that should share no image
ROLES = {"train": "trained on", "val": "validated on"}


def repeats(name: str, splits: Mapping[str, Split]) -> list[str]:
    """A sentence for two splits that have images in common, equal in every stored value; none where all are disjoint.

    Args:
        name: the data set's.
        splits: train, val and test.
    """
    counts = shared_images(splits)
    found = []
    for split, other in APART:
        if common := counts.get((other, split)):
            found.append(
                f"{common:,} of {len(splits[split].images):,} {split} images of {name} are {ROLES[other]} too: figures "
                "on them favour a model that remembers; take them out of one of the two splits"
            )
    return found


def _check_split(what: str, split: Split, levels: int) -> int:
    """The highest level of a split; an error where its images or labels are none."""
    images, labels = split.images, split.labels
    if not isinstance(images, Stored) and (
        not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4
    ):
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        shape = f" of shape {tuple(images.shape)}" if isinstance(images, Tensor) else ""
        raise UserError(
            f"{what} are {kind}{shape}, where a uint8 tensor of levels (n, "
            f"channels, height, width) is expected; cut them with vaebench.data.base.carve, and {REMEDY}"
        )
    if not len(images):
        raise UserError(f"{what} are none: expected at least one; lower the sizes of the other splits")
    if (top := max(int(part.max()) for part in parts(images))) >= levels:
        raise UserError(
            f"{what} hold the level {top}, where {levels} levels end at {levels - 1}; set levels to the "
            "number there are"
        )
    if labels is not None and (labels.shape != (len(images),) or labels.dtype != torch.int64):
        raise UserError(
            f"{what} have labels of type {labels.dtype} and shape {tuple(labels.shape)}, where int64 of shape "
            f"({len(images)},) is expected; give classes numbers from 0 on"
        )
    return top


def row_hashes(images: Stack) -> NDArray[np.int64]:
    """A number for each image of a split, (n,), equal for equal images.

    Python's hash of bytes has 64 bits and a key of the process: 0.1 s for MNIST, and no pair by chance or on purpose.
    """
    if isinstance(images, Stored):
        return images.hashes
    return np.fromiter((hash(row.tobytes()) for row in images.numpy()), np.int64, len(images))


def shared_images(splits: Mapping[str, Split]) -> dict[tuple[str, str], int]:
    """How many images of a split are in another too, by the names of both, the other first; where there are some."""
    rows = {name: row_hashes(splits[name].images) for name in ("train", "val", "test")}
    counts = {(other, split): int(np.isin(rows[split], rows[other]).sum()) for split, other in APART}
    return {pair: count for pair, count in counts.items() if count}


def require_disjoint(name: str, splits: Mapping[str, Split], remedy: str) -> None:
    """Refuses splits that share images.

    Args:
        name: of the data set.
        splits: by name.
        remedy: how the sentence ends.

    Raises:
        UserError: two splits share some.
    """
    for (first, second), count in shared_images(splits).items():
        raise UserError(
            f"{count:,} of the {len(splits[second].images):,} {second} images of {name} are {first} images too: "
            f"expected splits that have no image in common; {remedy}"
        )
