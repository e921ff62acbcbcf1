"""The input of every measurement: the model, the images it is evaluated on, and a store for finished pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vaebench.core import Family, LatentModel
from vaebench.errors import Unavailable, UserError
from vaebench.evaluation.conditions import (
    Conditioned,
    check_count,
    check_images,
    device_and_dtype,
    is_conditional,
    spread,
)
from vaebench.evaluation.estimators.latents import Latents, read_latents
from vaebench.evaluation.estimators.likelihood import no_density
from vaebench.evaluation.images import LazyImages, Stack, batch_size
from vaebench.evaluation.store import Pieces, Store
from vaebench.measures import DataSpec

Progress = Callable[[float], None]


class Images(Protocol):
    """A data module that has images by split, and their shape and measure.

    `Labelled` and `Generated` data modules allow more metrics; a `Forewarned` one adds warnings to the record; one that
    is `Selective` reads no more images than a measurement looks at.
    """

    @property
    def spec(self) -> DataSpec: ...
    def images(self, split: str) -> Tensor: ...


@runtime_checkable
class Labelled(Protocol):
    """A data module whose images have labels."""

    def labels(self, split: str) -> Tensor | None:
        """Labels of a split, (n,), or None where it has none."""


@runtime_checkable
class Generated(Protocol):
    """A data module whose images are generated from factors of variation."""

    def factors(self, split: str) -> Tensor | None:
        """Factors of a split, (n, factors), or None where it has none."""


@runtime_checkable
class Forewarned(Protocol):
    """A data module with warnings about its images, for readers of their metrics."""

    def warnings(self) -> list[str]:
        """One sentence per warning, for example on test images that are also training images."""


class Described(Protocol):
    """What became of pictures before they were images."""

    @property
    def words(self) -> str:
        """The crop, size and colours, '' where they are as they were."""


@runtime_checkable
class Prepared(Protocol):
    """A data module whose images were made from pictures of other sizes or colours."""

    @property
    def preparation(self) -> Described: ...


@runtime_checkable
class Selective(Protocol):
    """A data module that may be larger than the memory, and hands over some of its images."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of images of each split."""

    def some(self, split: str, index: Tensor) -> Tensor:
        """`images(split)[index]`, with index (m,) int64."""

    def resident(self, count: int) -> bool:
        """Whether so many images may be in memory at once."""


class Subject:
    """A model and its evaluation data, in evaluation mode and without gradients.

    Args:
        model: anything with the three parts; a conditional one gets the test labels (`Conditioned`).
        data: anything with `images(split)` and `spec`.
        seed: of all noise.
        limit: use the first `limit` test images only.
        store: of finished pieces.
        advance: called with the fraction of the current measurement that is done.

    Attributes:
        x: test images, (n, *data), on the model's device and in its precision; where they are more than the memory is
            meant to hold, they are read again whenever they are asked for.
        raw: the same on the CPU, as the data module gave them.
        size: number of test images that there are.

    Raises:
        UserError: limit below 1, no images, an image with values that its measure does not have, or no labels for a
            conditional model.
    """

    def __init__(
        self,
        model: LatentModel,
        data: Images,
        seed: int = 0,
        limit: int | None = None,
        store: Store | None = None,
        advance: Progress = lambda _: None,
    ) -> None:
        if limit is not None:
            check_count("limit", limit)
        self.model, self.data, self.seed, self.limit = model, data, seed, limit
        self.spec = data.spec
        self.store, self.advance = store or Store(), advance
        self.size = data.sizes["test"] if isinstance(data, Selective) else len(data.images("test"))
        self.raw = self.images("test", None if limit is None else torch.arange(min(limit, self.size)))
        check_images(self.raw, self.spec)
        self.device, self.dtype = device_and_dtype(model, self.raw)
        if is_conditional(model):
            self.model = Conditioned(cast(Family, model), self._required_labels(model))

    @cached_property
    def x(self) -> Stack:
        return self.raw.to(self.device, self.dtype)

    def whole(self) -> Tensor:
        """All test images at once, on the model's device, for what cannot take them in parts."""
        return self.x if isinstance(self.x, Tensor) else self.x.whole()

    @cached_property
    def latents(self) -> Latents:
        """Posteriors of all test images."""
        return read_latents(self.model, self.x)

    @cached_property
    def no_density(self) -> str | None:
        """Why q(z|x) or p(z) cannot be scored; None where both can."""
        return no_density(self.model, self.x)

    def some(self, count: int) -> Tensor:
        """Indices of up to `count` test images, evenly spaced."""
        return spread(len(self.raw), count)

    def train(self, count: int | None = None) -> Tensor:
        """Up to `count` training images, evenly spaced, (m, *data), on the model's device."""
        found = self.references("train", count)
        return found if isinstance(found, Tensor) else found.whole()

    def references(self, split: str, count: int | None = None) -> Stack:
        """Up to `count` training images or test images in use, evenly spaced, (m, *data), for the model's device."""
        if split == "test":
            n = len(self.raw)
        else:
            n = self.data.sizes[split] if isinstance(self.data, Selective) else len(self.data.images(split))
        return self.images(split, None if count is None else spread(n, count)).to(self.device, self.dtype)

    def images(self, split: str, index: Tensor | None = None) -> Stack:
        """Images of a split, or those at some places, as the data module gives them, on the CPU."""
        if not isinstance(self.data, Selective):
            return self.data.images(split) if index is None else self.data.images(split)[index]
        places = torch.arange(self.data.sizes[split]) if index is None else index
        if not self.data.resident(len(places)):
            return LazyImages(partial(self.data.some, split), places, self.spec.shape)
        return self.data.images(split) if index is None else self.data.some(split, index)

    def labels(self, split: str, count: int | None = None) -> Tensor | None:
        """Labels, (m,) int64, of the test images or of up to `count` training images; None where the data has none.

        Raises:
            Unavailable: they are not classes, one whole number per image.
        """
        known = self.data.labels(split) if isinstance(self.data, Labelled) else None
        return _whole("labels", self._part(known, split, count), 1)

    def factors(self, split: str, count: int | None = None) -> Tensor | None:
        """Factors of variation, (m, factors), as `labels`; None where the data has none."""
        known = self.data.factors(split) if isinstance(self.data, Generated) else None
        return _whole("factors", self._part(known, split, count), 2)

    def _required_labels(self, model: LatentModel) -> Tensor:
        try:
            labels, reason = self.labels("test"), "the test images have none"
        except Unavailable as error:
            labels, reason = None, str(error)
        if labels is None:
            raise UserError(
                f"{type(model).__name__} is conditional on labels, and {reason}; evaluate it on a data set with labels"
            )
        return labels.to(self.device)

    def _part(self, known: Tensor | None, split: str, count: int | None) -> Tensor | None:
        """Labels or factors of a split, restricted to the images in use."""
        if known is None or split == "test":
            return known if known is None else known[: self.limit]
        return known if count is None else known[spread(len(known), count)]

    def shards(self, name: str, n: int | None = None, size: int = 250) -> Shards:
        """Shards of images, for a loop that computes their values.

        Args:
            name: of the values; a file name.
            n: number of images; default: all test images.
            size: images per shard, or fewer where they are large.
        """
        self.store.share()
        n = len(self.raw) if n is None else n
        return Shards(self.store, name, n, batch_size(self.raw, size), self.advance)


class Shards:
    """Values of n images, computed shard by shard; iterating yields the shards that are left.

    An interrupted loop resumes, and several processes may share it, so the values of an image must not depend on its
    shard.

        shards = subject.shards("likelihood-part", size=50)
        for shard in shards:
            shards.add(shard, {"log_likelihood": log_likelihood(model, subject.raw[shard])})
        figures = shards.figures()

    Args:
        store: of finished shards.
        name: of the values.
        n: number of images.
        size: images per shard.
        advance: called with the fraction of shards that are done.
    """

    def __init__(self, store: Store, name: str, n: int, size: int, advance: Progress) -> None:
        self._slices = {f"{name}-{first:06}": slice(first, min(first + size, n)) for first in range(0, n, size)}
        self._pieces, self._advance = Pieces(store, self._slices), advance
        self._name = name

    def __iter__(self) -> Iterator[slice]:
        for name in self._pieces:
            yield self._slices[name]
            self._advance(len(self._pieces.finished()) / len(self._slices))

    def add(self, shard: slice, figures: Mapping[str, Tensor]) -> None:
        """Stores the values of a shard; the first axis of each counts its images."""
        arrays = {key: values.detach().cpu().numpy() for key, values in figures.items()}
        self._pieces[f"{self._name}-{shard.start:06}"] = arrays

    def figures(self) -> dict[str, Tensor]:
        """The values of all images, on the CPU, once the loop has ended."""
        parts = self._pieces.finished()
        return {key: torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in parts[0]}


def _whole(what: str, values: Tensor | None, axes: int) -> Tensor | None:
    """Whole numbers as int64.

    Raises:
        Unavailable: they have another shape, or are not whole numbers.
    """
    if values is None:
        return None
    values = torch.as_tensor(values)
    if values.dim() != axes:
        expected = "one number an image" if axes == 1 else "a row of numbers an image"
        raise Unavailable(f"the {what} have shape {tuple(values.shape)}, where {expected} is expected")
    if values.is_floating_point() and not bool((values == values.round()).all()):
        raise Unavailable(f"the {what} are no whole numbers, so that they name no classes")
    return values.long()
