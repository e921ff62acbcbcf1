"""What every data set is: three disjoint splits of images under one declared measure, in memory or in a file."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from vaebench.configuration.parts import name_of
from vaebench.data._batches import Batches, Blocks, DrawnBatches, TrainingBatches
from vaebench.data._checks import Split, as_labels, as_levels, checked, repeats
from vaebench.data._measure import Drawn, Measure
from vaebench.data._stored import Stored, limit, on_device, parts
from vaebench.errors import UserError, unknown
from vaebench.measures import DataSpec

_KNOWN: ContextVar[ImageData | None] = ContextVar("known", default=None)
SEEDS = {"train": 0, "val": 1, "test": 2}  # of the noise that fixes each split's images

__all__ = ["ImageData", "Split", "carve", "knowing", "shuffled"]


@contextmanager
def knowing(data: ImageData | None) -> Iterator[None]:
    """Runs a block in which a module with the settings of `data` takes its images, hashes and specification.

    Reading and hashing static MNIST takes a second, and a run is built twice: for its identity, and to be trained.
    """
    token = _KNOWN.set(data)
    try:
        yield
    finally:
        _KNOWN.reset(token)


class ImageData(LightningDataModule, ABC):
    """A data set with its measure; nothing is read before it is asked for.

    Training images are drawn anew in every batch where the measure is random. Validation and test images are drawn
    once, from a fixed seed, and are the same in every run on every machine. A subclass writes `raw` and the two class
    attributes. It is final.

    Args:
        measure: one of `measures`.
        batch_size: images per batch and process.

    Attributes:
        levels: number of values of a stored pixel.
        measures: the measures that the data set can have.
        PLACES: settings that say where the images are. They are no part of a run's identity, for the data's hashes
            are, and a record's are not looked at unless the user names the place too.
        block: batches that the training loader hands over at a time.
        length: batches of a training epoch by its number; None: all.
        seed: of the orders and of drawn images; None: torch's, when the loader is made.
        device: where batches lie; a trainer's own device goes before it.
        name: the module's name, by which records know the data set.

    Raises:
        UserError: the data set cannot have that measure, or the batch size is not positive.
    """

    levels: int
    measures: tuple[str, ...]
    PLACES: ClassVar[tuple[str, ...]] = ()
    block: int = 1
    length: Callable[[int], int] | None = None
    seed: int | None = None
    device: torch.device = torch.device("cpu")

    def __init__(self, measure: str, batch_size: int = 128) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # a record of a model from elsewhere keeps them
        self.name: str = name_of(type(self))
        if measure not in self.measures:
            raise UserError(
                f"{self.name} cannot have the measure '{measure}': expected {' or '.join(self.measures)}; set "
                "data.measure to one of them"
            )
        if batch_size < 1:
            raise UserError(
                f"{self.name} cannot be split into batches of {batch_size} images: expected at least 1; set "
                "data.batch_size to a positive number"
            )
        self.batch_size = batch_size
        self._measure = Measure(measure, self.levels)
        known = _KNOWN.get()
        same = known is not None and type(known) is type(self) and known.hparams == self.hparams
        self._same: ImageData | None = (known._same or known) if known is not None and same else None
        self._fixed: dict[str, Tensor] = self._same._fixed if self._same else {}
        self._drawn: dict[str, Drawn] = {}

    @abstractmethod
    def raw(self) -> Mapping[str, Split]:
        """The stored splits 'train', 'val' and 'test', disjoint, from disk or network."""

    @cached_property
    def _splits(self) -> Mapping[str, Split]:
        return self._same._splits if self._same else checked(self.name, self.raw(), self.levels)

    def _split(self, name: str) -> Split:
        if name not in SEEDS:
            raise unknown("split", name, SEEDS)
        return self._splits[name]

    @cached_property
    def spec(self) -> DataSpec:
        """Shape, measure, training mean (the expectation of the images, without a draw) and up to 1,000 examples."""
        if self._same:
            return self._same.spec
        train = self._split("train").images
        places = torch.linspace(0, len(train) - 1, min(len(train), 1000)).round().long()
        some = train.read(places) if isinstance(train, Stored) else train[places]
        mean, examples = self._measure.mean(train), self._measure.fixed(some, SEEDS["train"])
        measure = self._measure
        return DataSpec(tuple(train.shape[1:]), measure.name, mean, len(train), examples, measure.random)

    def images(self, split: str) -> Tensor:
        """A split's images under the measure, (n, c, h, w) float32 in [0, 1], on the CPU; always the same ones.

        Args:
            split: 'train', 'val' or 'test'. For 'train' it is one fixed draw, where training itself redraws.
        """
        levels = self._split(split).images
        if split == "train":
            return self._measure.fixed(levels, SEEDS[split])
        if split not in self._fixed:
            self._fixed[split] = self._measure.fixed(levels, SEEDS[split])
        return self._fixed[split]

    def some(self, split: str, index: Tensor) -> Tensor:
        """The images of a split at some places, (m, c, h, w): those of `images`, of which no more is held meanwhile.

        Args:
            split: 'train', 'val' or 'test'.
            index: (m,) int64, from 0.
        """
        levels = self._split(split).images
        if not self._measure.random:
            return self._measure.scale(levels.read(index) if isinstance(levels, Stored) else levels[index])
        if split not in self._drawn:
            self._drawn[split] = Drawn(self._measure, levels, SEEDS[split])
        return self._drawn[split].at(index)

    def resident(self, count: int) -> bool:
        """Whether so many images, as float32, may be in memory at once: by `VAEBENCH_MEMORY`."""
        return 4 * count * self.spec.dimensions <= limit()

    def first(self, split: str, count: int) -> Tensor:
        """The first `count` images of a split, or all that there are; see `some`."""
        return self.some(split, torch.arange(min(count, self.sizes[split])))

    def _draws(self, split: str) -> Iterator[Tensor]:
        """`images` part by part."""
        return self._measure.draws(parts(self._split(split).images), SEEDS[split])

    def labels(self, split: str) -> Tensor | None:
        """A split's labels, (n,) int64, or None where the data set has none."""
        return self._split(split).labels

    def index(self, split: str) -> Tensor:
        """Where each image of a split stands in the source that it was read from, (n,) int64; its place, if unknown."""
        images, _, source = self._split(split)
        return torch.arange(len(images)) if source is None else source

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        return {name: len(self._split(name).images) for name in SEEDS}

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of what is used: images (of training the stored levels), their shape, and labels; 64 hex digits."""
        if self._same:
            return self._same.hashes
        hashes = {}
        for name in SEEDS:
            images = self._split(name).images
            used = parts(images) if name == "train" else self._draws(name)
            hashes[name] = hash_of(used, tuple(images.shape), self.labels(name))
        return hashes

    @cached_property
    def _repeats(self) -> list[str]:
        return self._same._repeats if self._same else repeats(self.name, self._splits)

    def warnings(self) -> list[str]:
        """What a reader of figures on these images must know, a sentence each: that splits have images in common."""
        return self._repeats

    def train_dataloader(self) -> TrainingBatches | Blocks:
        """Batches of training images in a new order every epoch, which follows from the seed and the epoch.

        In blocks of `block` batches where that is set.
        """
        batches = self.training_batches(torch.initial_seed() if self.seed is None else self.seed)
        return Blocks(batches, self.block) if self.block > 1 else batches

    def batches(self, split: str, world: int = 1) -> int:
        """How many batches a pass over the 'train' or 'val' split has, for each of `world` processes."""
        n = len(self._split(split).images)
        return max(1, -(-(n // world) // self.batch_size) if split == "train" else -(-n // (self.batch_size * world)))

    def training_batches(self, seed: int) -> TrainingBatches:
        """The same one by one, in the orders that follow from a seed."""
        trainer, (levels, labels, _) = self.trainer, self._split("train")
        return TrainingBatches(
            on_device(levels, self._device),
            None if labels is None else labels.to(self._device),
            device=self._device,
            measure=self._measure,
            size=self.batch_size,
            seed=seed,
            epoch=(lambda: trainer.current_epoch) if trainer else None,
            length=self.length,
            **self._place,
        )

    def val_dataloader(self) -> Batches:
        """Batches of the fixed validation images; all of them on every process, so that the bound has one noise."""
        world = self.trainer.world_size if self.trainer else 1
        return self._held_out("val", self.batch_size * world)

    def test_dataloader(self) -> Batches:
        """Batches of the fixed test images."""
        return self._held_out("test", self.batch_size, **self._place)

    def _held_out(self, split: str, size: int, rank: int = 0, world: int = 1) -> Batches:
        levels, labels, device = self._split(split).images, self.labels(split), self._device
        labels = None if labels is None else labels.to(device)
        if isinstance(levels, Stored):
            return DrawnBatches(levels, labels, self._measure, SEEDS[split], size, device, rank, world)
        return Batches(self.images(split).to(device), labels, size, rank, world)

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else self.device

    @property
    def _place(self) -> dict[str, Any]:
        return {"rank": self.trainer.global_rank, "world": self.trainer.world_size} if self.trainer else {}


def carve(
    images: NDArray[Any] | Stored, labels: NDArray[Any] | None, index: NDArray[Any] | None = None, **sizes: int
) -> dict[str, Split]:
    """Cuts images (n, c, h, w) and labels (n,) into consecutive splits of the given sizes; −1 takes what is left.

    Args:
        images: levels, whole numbers from 0 to 255 of any numeric type; or stored ones, which stay where they are.
        labels: whole numbers, or None.
        index: where each image stands in the source; default: its place in `images`.
        sizes: of the splits, by name.

    Raises:
        UserError: the images are no levels, the labels no whole numbers, or the sizes exceed the number of images.

    >>> {name: len(split.images) for name, split in carve(np.zeros((9, 1, 2, 2)), None, train=-1, val=2).items()}
    {'train': 7, 'val': 2}
    """
    n = len(images)
    levels = images if isinstance(images, Stored) else as_levels(images)
    numbers = None if labels is None else as_labels(labels, n)
    index = np.arange(n) if index is None else as_labels(index, n)
    rest = n - sum(size for size in sizes.values() if size >= 0)
    if rest < 0:
        raise UserError(f"{n} images are cut into splits of {sizes}: expected no more than there are; lower the sizes")
    splits, at = {}, 0
    for name, size in sizes.items():
        end = at + (rest if size < 0 else size)
        part = levels[at:end]
        splits[name] = Split(
            part if isinstance(part, Stored) else torch.from_numpy(part),
            None if numbers is None else torch.from_numpy(numbers[at:end]),
            torch.from_numpy(index[at:end]),
        )
        at = end
    return splits


def shuffled(n: int, seed: int = 0) -> NDArray[np.int64]:
    """A permutation of 0 … n−1, the same with every version of NumPy."""
    return np.random.RandomState(seed).permutation(n)


def hash_of(images: Iterable[Tensor], shape: tuple[int, ...], labels: Tensor | None) -> str:
    """SHA-256 of images and labels, their shape and type; 64 hex digits.

    Args:
        images: consecutive parts of them, at least one.
        shape: of all images.
        labels: of all images, or None.
    """
    digest = None
    for part in images:
        digest = digest or hashlib.sha256(repr((shape, str(part.dtype))).encode())
        digest.update(part.contiguous().numpy().data)
    assert digest is not None
    if labels is not None:
        digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()
