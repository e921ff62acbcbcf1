"""Lanes side by side: on a CPU each runs in a thread of its own, on one core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def cores(device: torch.device) -> int:
    """Number of lanes that can run side by side: torch's threads on a CPU, one on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def side_by_side(work: Sequence[Callable[[], T]], device: torch.device, alone: bool = True) -> list[T]:
    """Does every piece of work, and returns what each gave, in their order.

    On a CPU of several cores, pieces run at once, each on one core: splitting the operators of a small model over cores
    costs more in waiting than it saves (benchmarks/population.py). torch computes without Python's lock, so threads do.

    Args:
        work: the pieces.
        device: where they compute.
        alone: a single piece has all cores; otherwise one, as beside others.
    """
    threads = cores(device)
    if threads == 1 or (len(work) <= 1 and alone):
        return [piece() for piece in work]
    try:
        with ThreadPoolExecutor(min(threads, len(work)), initializer=_one_core) as pool:
            return list(pool.map(lambda piece: piece(), work))
    finally:
        torch.set_num_threads(threads)


def _one_core() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a setting of every thread
