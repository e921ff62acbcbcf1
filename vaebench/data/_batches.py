"""Batches from tensors or from files: indexed on their device, or read one batch ahead; without padding."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor

from vaebench.data._measure import Measure
from vaebench.data._stored import Stack, Stored, limit

Batch = tuple[Tensor, Tensor | None]

FLOAT_LIMIT = 2**30  # bytes up to which training images, within `limit`, are kept as float32 rather than as levels


class Batches:
    """All images once, in their order, as (x, y): x (b, c, h, w) float32, y (b,) int64 or None.

    Args:
        images: (n, c, h, w) float32, on the device they are wanted on.
        labels: (n,) or None.
        size: images per batch; the last has what is left.
        rank: of this process among `world`, each of which takes every `world`-th image; all make as many batches.
        world: number of processes.
    """

    def __init__(self, images: Stack, labels: Tensor | None, size: int, rank: int = 0, world: int = 1) -> None:
        self.images, self.labels = images, labels
        self.size, self.rank, self.world = size, rank, world

    def __len__(self) -> int:
        return max(1, -(-(len(self.images) // self.world) // self.size))

    def __iter__(self) -> Iterator[Batch]:
        assert isinstance(self.images, Tensor)
        images = self.images[self.rank :: self.world]
        labels = None if self.labels is None else self.labels[self.rank :: self.world]
        for start, end in _spans(len(images), self.size, len(self)):
            yield images[start:end], None if labels is None else labels[start:end]


class DrawnBatches(Batches):
    """The batches that `Batches` makes of all images of a held-out split, drawn as they are read from their file.

    Args:
        levels: (n, c, h, w) uint8.
        labels: (n,) or None, on the device.
        measure: what becomes of the levels.
        seed: of the split's draw.
        device: where batches are wanted.
        size, rank, world: as in `Batches`.
    """

    def __init__(
        self,
        levels: Stored,
        labels: Tensor | None,
        measure: Measure,
        seed: int,
        size: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(levels, labels, size, rank, world)
        self.levels, self.measure, self.seed, self.device = levels, measure, seed, device

    def __iter__(self) -> Iterator[Batch]:
        n, world, labels = len(self.levels), self.world, self.labels
        mine = -(-(n - self.rank) // world)
        spans = [slice(world * start, min(n, world * end)) for start, end in _spans(mine, self.size, len(self))]
        for span, x in zip(spans, self.measure.draws(map(self.levels.read, spans), self.seed), strict=True):
            own = slice(span.start + self.rank, span.stop, world)  # the noise of other ranks' images is drawn too
            yield x[self.rank :: world].to(self.device), None if labels is None else labels[own]


class TrainingBatches(Batches):
    """All images once an epoch, in a new order and, where the measure is random, drawn anew.

    The order follows from the seed and the epoch alone, so that it is the same on every rank and after an interruption;
    the noise also from the rank.

    Args:
        levels: (n, c, h, w) uint8, on the device, or elsewhere: then each batch is read while the one before trains.
        labels: (n,) or None, on the device.
        measure: what becomes of the levels.
        seed: of the whole run.
        epoch: the running epoch; None counts the passes over this object.
        length: batches of an epoch by its number, where it does not have all of them; the first has the most.
        size, rank, world: as in `Batches`.
        device: where batches are wanted; default: where the levels are.
    """

    def __init__(
        self,
        levels: Stack,
        labels: Tensor | None,
        measure: Measure,
        size: int,
        seed: int,
        epoch: Callable[[], int] | None = None,
        rank: int = 0,
        world: int = 1,
        length: Callable[[int], int] | None = None,
        device: torch.device | None = None,
    ) -> None:
        here = torch.device("cpu") if isinstance(levels, Stored) else levels.device
        self.device = device or here
        self._ahead = isinstance(levels, Stored) or here.type != self.device.type
        if isinstance(levels, Tensor) and not self._ahead and 4 * levels.numel() <= min(FLOAT_LIMIT, limit()):
            levels = measure.scale(levels)
        super().__init__(levels, labels, size, rank, world)
        self.measure, self.seed = measure, seed
        self.epoch, self.length = epoch or count().__next__, length

    def __len__(self) -> int:
        return super().__len__() if self.length is None else self.length(0)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch()
        batches = self.side_by_side([(self.seed, epoch)])
        for x, y in islice(batches, None if self.length is None else self.length(epoch)):
            yield x[0], None if y is None else y[0]

    def side_by_side(self, streams: Sequence[tuple[int, int]]) -> Iterator[Batch]:
        """All batches of several runs at once, for each the ones that it would get alone.

        Args:
            streams: seed and epoch of each of n runs.

        Yields:
            x (n, b, c, h, w) and y (n, b) or None.
        """
        labels, measure, device = self.labels, self.measure, self.device
        entropies = [(seed % 2**64, epoch) for seed, epoch in streams]
        orders = torch.stack([self._order(mixed(*entropy)) for entropy in entropies])
        noises = [torch.Generator(device).manual_seed(mixed(*entropy, 1 + self.rank)) for entropy in entropies]
        orders = orders if self._ahead else orders.to(device)
        indices = [orders[:, start:end] for start, end in _spans(orders.shape[1], self.size, super().__len__())]
        for index, x in zip(indices, self._chosen(indices), strict=True):
            if x.dtype == torch.uint8:
                x = measure.scale(x)
            if measure.random:
                drawn = [measure.draw(one, noise) for one, noise in zip(x, noises, strict=True)]
                x = torch.stack(drawn) if len(drawn) > 1 else drawn[0][None]
            yield x, None if labels is None else labels[index if index.device == labels.device else index.to(device)]

    def _chosen(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images at each index, of its shape and then theirs, on the device."""
        if not self._ahead:
            yield from map(self._at, indices)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._at, indices[0])
            for following in indices[1:]:
                found, ahead = ahead.result(), reader.submit(self._at, following)
                yield found
            yield ahead.result()

    def _at(self, index: Tensor) -> Tensor:
        images, places = self.images, index.flatten()
        found = images.read(places) if isinstance(images, Stored) else images.index_select(0, places)
        return found.unflatten(0, index.shape).to(self.device)

    def _order(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self.images), generator=generator)[self.rank :: self.world]


class Blocks:
    """Consecutive batches, several at a time: a training loop that costs something a call pays it once a block.

    Args:
        batches: what is grouped.
        size: batches a block; the last has what is left.
    """

    def __init__(self, batches: Batches, size: int) -> None:
        self.batches, self.size = batches, size

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[tuple[Batch, ...]]:
        batches = iter(self.batches)
        while block := tuple(islice(batches, min(self.size, sys.maxsize))):
            yield block


def _spans(n: int, size: int, batches: int) -> Iterator[tuple[int, int]]:
    """Start and end of each batch; with several ranks the last may hold one more, so that all make as many."""
    for start in range(0, (batches - 1) * size, size):
        yield start, start + size
    yield (batches - 1) * size, n


def mixed(*entropy: int) -> int:
    """A generator's seed from several numbers: nearby ones give unrelated streams."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
