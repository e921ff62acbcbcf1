"""Concurrent lanes: on a CPU each runs in its own thread, on one core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def cores(device: torch.device) -> int:
    """Number of concurrent lanes: torch's threads on a CPU, one on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def side_by_side(work: Sequence[Callable[[], T]], device: torch.device, alone: bool = True) -> list[T]:
    """Runs every piece of work, and returns the results in order.

    On a CPU with several cores pieces run concurrently, each on one core: splitting the operators of a small model over
    cores costs more in synchronisation than it saves (benchmarks/population.py). Threads suffice, since torch releases
    Python's lock.

    Args:
        work: the pieces.
        device: of the computations.
        alone: a single piece uses all cores; otherwise one, as among others.
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
