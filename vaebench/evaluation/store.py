"""Finished pieces of an evaluation: kept in a folder, they are never computed twice, by one process or by many."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.files import write_atomically

Arrays = Mapping[str, NDArray[Any]]


class Store:
    """Pieces by name. Several processes may share a folder: each piece is claimed by one of them.

    A claim is a lock on a file, which the system lifts when its owner dies, so that nothing waits for the dead.

    Args:
        folder: where the pieces are kept; None keeps none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def pieces(self, names: Sequence[str], compute: Callable[[int], Arrays]) -> Iterator[tuple[int, Arrays]]:
        """Every piece with its index, in any order: those that are there, then what others leave, then what they had.

        Args:
            names: of the pieces; file names without an ending.
            compute: makes the piece of an index.
        """
        left = []
        for index, name in enumerate(names):
            piece = self._get(name, partial(compute, index), wait=False)
            if piece is None:
                left.append(index)
            else:
                yield index, piece
        for index in left:
            piece = self._get(names[index], partial(compute, index), wait=True)
            assert piece is not None
            yield index, piece

    def _get(self, name: str, compute: Callable[[], Arrays], wait: bool) -> Arrays | None:
        """A piece; None where another process is at it, and we do not wait."""
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}.npz"
        if path.is_file():
            return _read(path)
        with _claim(self.folder / f"{name}.lock", wait) as mine:
            if path.is_file():
                return _read(path)
            if not mine:
                return None
            arrays = compute()
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            write_atomically(path, buffer.getvalue())
            return arrays


def _read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@contextmanager
def _claim(path: Path, wait: bool) -> Iterator[bool]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
