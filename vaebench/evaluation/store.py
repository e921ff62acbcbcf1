"""Finished pieces of an evaluation: kept in a folder, they are never computed twice, by one process or by many."""

from __future__ import annotations

import fcntl
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vaebench.files import write_atomically

Arrays = Mapping[str, NDArray[Any]]


class Store:
    """A folder of arrays by name, which several processes may share: each piece is claimed by one of them.

    A claim is a lock on a file, which the system lifts when its owner dies, so that nothing waits for the dead. A file
    begins with the SHA-256 of its name and content: a piece that is damaged, or another one's, counts as unfinished.

    Args:
        folder: where the pieces are kept; None keeps none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._claims: list[IO[str]] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Arrays | None:
        """The arrays of a finished piece; None where it is not finished."""
        if self.folder is None or not (path := self.folder / f"{name}.piece").is_file():
            return None
        written = path.read_bytes()
        digest, content = written[:32], written[32:]
        if digest != _digest(name, content):
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def write(self, name: str, arrays: Arrays) -> None:
        """Keeps the arrays of a piece."""
        if self.folder is not None:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            content = buffer.getvalue()
            write_atomically(self.folder / f"{name}.piece", _digest(name, content) + content)

    @contextmanager
    def claim(self, name: str, wait: bool) -> Iterator[bool]:
        """A block with the claim on a piece, or with False where another process has it and we do not wait."""
        if self.folder is None:
            yield True
            return
        with (self.folder / f"{name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                self._claims.append(file)
                try:
                    yield True
                finally:
                    self._claims.remove(file)

    def share(self) -> None:
        """Gives up all claims: from here on the work is divided into pieces that any process may claim."""
        for file in self._claims:
            fcntl.flock(file, fcntl.LOCK_UN)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


class Pieces:
    """Named pieces of an evaluation; a loop over them meets those that this process is to compute.

        pieces = Pieces(store, ["one", "two"])
        for name in pieces:
            pieces[name] = arrays

    First come those that nobody has finished or claimed, then, as claims end, those that another process has left
    unfinished. A piece is claimed until the next is taken.

    Args:
        store: where finished pieces are kept.
        names: of the pieces; file names without an ending.
    """

    def __init__(self, store: Store, names: Iterable[str]) -> None:
        self._store, self._finished = store, dict[str, Arrays | None].fromkeys(names)

    def __iter__(self) -> Iterator[str]:
        for wait in (False, True):
            for name in self._finished:
                if name in self:
                    continue
                with self._store.claim(name, wait) as mine:
                    if mine and name not in self:
                        yield name

    def __contains__(self, name: str) -> bool:
        """Whether a piece is finished, here or by another process."""
        if self._finished[name] is None:
            self._finished[name] = self._store.read(name)
        return self._finished[name] is not None

    def __setitem__(self, name: str, arrays: Arrays) -> None:
        self._store.write(name, arrays)
        self._finished[name] = arrays

    def finished(self) -> list[Arrays]:
        """The arrays of all pieces that are finished, in the order of their names."""
        return [arrays for name in self._finished if name in self and (arrays := self._finished[name]) is not None]
