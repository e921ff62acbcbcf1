"""From stored grey levels to the images a model sees: scaled, binarised or dequantised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaebench.data._stored import Stack, in_memory, parts, rows_of_a_part
from vaebench.measures import BINARY, CONTINUOUS

BELOW_ONE = 1 - 2**-24  # the largest float32 below 1: the range of continuous images is half-open
CHUNK = 2**20  # values turned into float64 noise at a time


@dataclass(frozen=True)
class Measure:
    """How levels 0 … N−1, stored as uint8, become images in [0, 1].

    - ``binary``: bits ~ Bernoulli(level / (N−1)), which for N = 2 are the levels themselves;
    - ``discreteN``: level / (N−1);
    - ``continuous``: (level + u) / N with u ~ U[0, 1), so that images lie in [0, 1).

    Args:
        name: one of the three.
        levels: N, from 2 to 256.
    """

    name: str
    levels: int

    @property
    def random(self) -> bool:
        """Whether an image is drawn anew each time it is met in training."""
        return self.name == CONTINUOUS or (self.name == BINARY and self.levels > 2)

    @property
    def _top(self) -> int:
        return self.levels if self.name == CONTINUOUS else self.levels - 1

    def scale(self, levels: Tensor) -> Tensor:
        """Levels as float32 in [0, 1], before any noise: a probability, the image itself, or the foot of its bin."""
        return levels.to(torch.float32).div_(self._top)

    def draw(self, scaled: Tensor, generator: torch.Generator) -> Tensor:
        """One random draw of scaled levels, (b, c, h, w), with `generator` on their device."""
        u = torch.rand(scaled.shape, generator=generator, device=scaled.device)
        if self.name == BINARY:
            return torch.lt(u, scaled, out=u)  # torch.bernoulli takes 1.6 times as long on a CPU
        return u.div_(self.levels).add_(scaled).clamp_(max=BELOW_ONE)

    def fixed(self, levels: Stack, seed: int) -> Tensor:
        """The draw that `seed` gives, (n, c, h, w) float32, the same on every machine and with every NumPy."""
        if not self.random:
            return self.scale(in_memory(levels))
        out, at = torch.empty(levels.shape, dtype=torch.float32), 0
        for x in self.draws(parts(levels), seed):
            out[at : at + len(x)] = x
            at += len(x)
        return out

    def draws(self, levels: Iterable[Tensor], seed: int) -> Iterator[Tensor]:
        """The same in parts: for consecutive parts of a split's levels their part of the draw."""
        noise = np.random.RandomState(seed)  # its stream is frozen for good, unlike that of numpy's Generator
        for part in levels:
            yield self.drawn(part, noise) if self.random else self.scale(part)

    def drawn(self, levels: Tensor, noise: np.random.RandomState) -> Tensor:
        """The draw of some levels from where the noise stands."""
        out = torch.empty(levels.shape, dtype=torch.float32)
        step = max(1, CHUNK // max(1, levels[0].numel()))
        for at in range(0, len(levels), step):
            chunk = levels[at : at + step].numpy()
            u = noise.random_sample(chunk.shape)
            values = u * self._top < chunk if self.name == BINARY else (chunk + u) / self.levels
            out[at : at + step] = torch.from_numpy(values)
        return out if self.name == BINARY else out.clamp_(max=BELOW_ONE)

    def skip(self, noise: np.random.RandomState, values: int) -> None:
        """Moves the noise of `draws` on by what so many values take."""
        for at in range(0, values, CHUNK):
            noise.random_sample(min(CHUNK, values - at))

    def mean(self, levels: Stack) -> Tensor:
        """The expected image, (c, h, w) float32, of levels (n, c, h, w): exact, without a draw."""
        total = np.zeros(levels.shape[1:], np.int64)
        for part in parts(levels):
            total += part.numpy().sum(0, dtype=np.int64)
        average = total / len(levels)
        shift = 0.5 if self.name == CONTINUOUS else 0.0
        return torch.from_numpy(((average + shift) / self._top).astype(np.float32))


class Drawn:
    """The images that `Measure.draws` makes of a split, at any places.

    They come from one stream of noise, whose state is kept at the start of every part that was reached.

    Args:
        measure: a random one.
        levels: of the split.
        seed: of the stream.
    """

    def __init__(self, measure: Measure, levels: Stack, seed: int) -> None:
        self._measure, self._levels = measure, levels
        self._size, self._step = int(np.prod(levels.shape[1:])), rows_of_a_part(levels)
        self._states = [np.random.RandomState(seed).get_state(legacy=False)]
        self._last: tuple[int, Tensor] = (-1, torch.empty(0))

    def at(self, index: Tensor) -> Tensor:
        """The images at some places, (m, c, h, w) float32, with index (m,) int64."""
        out = torch.empty(len(index), *self._levels.shape[1:])
        numbers = index // self._step
        for number in numbers.unique().tolist():
            mine = numbers == number
            out[mine] = self._part(number)[index[mine] - number * self._step]
        return out

    def _part(self, number: int) -> Tensor:
        if self._last[0] != number:
            noise = np.random.RandomState()
            noise.set_state(self._states[min(number, len(self._states) - 1)])
            while len(self._states) <= number:
                self._measure.skip(noise, self._step * self._size)
                self._states.append(noise.get_state(legacy=False))
            span = slice(number * self._step, (number + 1) * self._step)
            levels = self._levels[span] if isinstance(self._levels, Tensor) else self._levels.read(span)
            self._last = number, self._measure.drawn(levels, noise)
            if len(self._states) == number + 1:
                self._states.append(noise.get_state(legacy=False))
        return self._last[1]
