"""Images that are handed over from Python: a tensor, an array, a Dataset, a DataLoader or a data module."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from vaebench.data._prepare import Layout, channels_first
from vaebench.data.base import hash_of
from vaebench.errors import Unavailable, UserError
from vaebench.measures import BINARY, DataSpec

DISCRETE256 = "discrete256"
WAYS = "a tensor, an array, a Dataset, a DataLoader, a data module or the name of a data set"


class GivenImages:
    """Test images that were handed over, and perhaps labels.

    Args:
        x: (n, c, h, w) float32 in [0, 1].
        measure: of their likelihood.
        labels: (n,) whole numbers, or None.
        name: by which records know them.
    """

    def __init__(self, x: Tensor, measure: str, labels: Tensor | None = None, name: str = "given") -> None:
        self.x, self.y, self.name = x, labels, name
        self.spec = DataSpec(tuple(x.shape[1:]), measure)

    def images(self, split: str) -> Tensor:
        """The images.

        Raises:
            Unavailable: another split than 'test'.
        """
        if split != "test":
            raise Unavailable(f"only test images were given, and this needs those of '{split}'")
        return self.x

    def labels(self, split: str) -> Tensor | None:
        """Their labels, (n,) int64; None without any, and for other splits."""
        return self.y if split == "test" else None

    def index(self, split: str) -> Tensor:
        """Their places, (n,)."""
        return torch.arange(len(self.x))

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images."""
        return {"test": len(self.x)}

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the images and labels."""
        return {"test": hash_of([self.x], tuple(self.x.shape), self.y)}


def given(
    images: Any,
    measure: str | None = None,
    labels: Any = None,
    range: tuple[float, float] | None = None,
    layout: Layout | None = None,
    name: str = "given",
) -> GivenImages:
    """Test images as evaluation takes them.

    Args:
        images: (n, h, w), (n, c, h, w) or (n, h, w, c), as a tensor or an array: levels from 0 to 255 of a type of
            whole numbers, truth values, or numbers in [0, 1]; or a Dataset or DataLoader of images, or of images and
            labels.
        measure: 'binary', 'continuous' or 'discreteN'. Default: binary for truth values and for numbers that are all 0
            or 1, 'discrete256' for levels. Other numbers need it.
        labels: (n,) whole numbers.
        range: values of black and white, of numbers that do not lie in [0, 1], such as (−1, 1).
        layout: 'nchw' or 'nhwc', where the shape does not say it.
        name: by which records know them.

    Raises:
        UserError: the images are of another type or shape, or lack what is said above.
    """
    array, found = arrays_of(images)
    labels = found if labels is None else labels
    array = channels_first(array, layout, "the images")
    whole, bits = array.dtype.kind in "ui", array.dtype.kind == "b"
    if array.dtype.kind not in "buif" or not len(array):
        raise UserError(f"images of type {array.dtype} and shape {array.shape}: expected numbers, of one image or more")
    x = torch.from_numpy(array.astype(np.float32))
    only_bits = bits or bool(((x == 0) | (x == 1)).all())
    if range is not None and not range[0] < range[1]:
        raise UserError(f"range is {range}: expected the values of black and of white, such as (-1, 1); mend it")
    if whole and range is None and measure != BINARY and not (measure is None and only_bits):
        x, measure = x / 255, measure or DISCRETE256
    elif range is not None:
        x = (x - range[0]) / (range[1] - range[0])
    if measure is None:
        if not only_bits:
            raise UserError(
                f"images of type {array.dtype} with values from {array.min():g} to {array.max():g} may be of any "
                "measure: expected 'continuous', 'discrete256' or 'binary'; say which, as in vb.images(x, measure=…)"
            )
        measure = BINARY
    known = None if labels is None else torch.as_tensor(labels).cpu()
    if known is not None and len(known) != len(x):
        raise UserError(f"there are {len(known)} labels for {len(x)} images: expected one for each; give as many")
    return GivenImages(x, measure, known, name)


def arrays_of(images: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Images that were handed over as an array of their own type, shape and values, and labels, (n,), or None.

    Args:
        images: as `given` takes them.

    Raises:
        UserError: they are of another type, or of several shapes.
    """
    labels = None
    if isinstance(images, DataLoader | Dataset):
        images, labels = _gathered(images)
    if not isinstance(images, Tensor | np.ndarray | list | tuple):
        raise UserError(f"images are a {type(images).__name__}: expected {WAYS}; give one")
    try:
        array = np.asarray(images.detach().cpu() if isinstance(images, Tensor) else images)
    except ValueError as error:
        raise UserError(
            f"images are a {type(images).__name__} that makes no array ({error}): expected images of one shape; crop "
            "or resize them"
        ) from error
    return array, None if labels is None else labels.cpu().numpy()


def _gathered(source: DataLoader[Any] | Dataset[Any]) -> tuple[Tensor, Tensor | None]:
    """All images, and labels where items have some, of a Dataset's items or a DataLoader's batches."""
    loader = source if isinstance(source, DataLoader) else DataLoader(source, batch_size=256, collate_fn=_collated)
    images, labels = [], []
    for batch in loader:
        pair = batch if isinstance(batch, list | tuple) else (batch,)
        if not isinstance(pair[0], Tensor):
            raise UserError(f"a batch holds a {type(pair[0]).__name__}: expected images as tensors; give others")
        images.append(pair[0])
        labels += list(pair[1:2])
    if not images:
        raise UserError("the Dataset or DataLoader holds no images: expected at least one; give another")
    return torch.cat(images), torch.cat(labels) if labels and all(isinstance(y, Tensor) for y in labels) else None


def _collated(items: list[Any]) -> Any:
    """A batch of a Dataset's items, in which pictures are arrays."""
    pairs = [item if isinstance(item, list | tuple) else (item,) for item in items]
    return default_collate([(np.array(x) if isinstance(x, Image) else x, *rest) for x, *rest in pairs])
