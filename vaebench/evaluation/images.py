"""Images of an evaluation that may be more than the memory is meant to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy

import torch
from torch import Tensor

VALUES = 2**22  # of images that are encoded and decoded at a time


class LazyImages:
    """Images that are read where they are asked for, and otherwise as a tensor (n, *data) hands them over.

    Args:
        read: gives the images at some places, (m,) int64, as (m, *data) float32 on the CPU.
        index: the places of all of them.
        shape: of an image.
    """

    def __init__(self, read: Callable[[Tensor], Tensor], index: Tensor, shape: tuple[int, ...]) -> None:
        self._read, self._index = read, index
        self.shape = torch.Size((len(index), *shape))
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        places = self._index[index.cpu() if isinstance(index, Tensor) else index]
        return self._read(places).to(self.device, self.dtype)

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive images, (size, *data), of which the last may be fewer."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device, dtype: torch.dtype) -> Stack:
        """The same images for a device; on a GPU, if they leave half of its free memory."""
        moved = copy(self)
        moved.device, moved.dtype = device, dtype
        if device.type == "cuda" and self.shape.numel() * dtype.itemsize <= torch.cuda.mem_get_info(device)[0] // 2:
            return moved.whole()
        return moved

    def whole(self) -> Tensor:
        """All of them, (n, *data)."""
        out, at = torch.empty(self.shape, dtype=self.dtype, device=self.device), 0
        for part in parts(self):
            out[at : at + len(part)] = part
            at += len(part)
        return out


Stack = Tensor | LazyImages
"""Images (n, *data), in memory or read where they are asked for."""


def batch_size(x: Stack, most: int) -> int:
    """Images a batch: fewer than `most` where they are large."""
    return max(1, min(most, VALUES // max(1, x.shape[1:].numel())))


def parts(x: Stack, most: int = 250) -> Iterator[Tensor]:
    """Consecutive batches of images."""
    yield from x.split(batch_size(x, most))
