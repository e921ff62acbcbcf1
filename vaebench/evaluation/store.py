"""Finished pieces of an evaluation, stored in a folder so that no process computes one twice."""

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
    """A folder of named arrays that several processes may share; each piece is claimed by one of them.

    A claim is a file lock, which the system releases when its owner dies. A file begins with the SHA-256 of its name
    and content; a damaged or misnamed piece counts as unfinished.

    Args:
        folder: of the pieces; None stores nothing.
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
        """Stores the arrays of a piece."""
        if self.folder is not None:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            content = buffer.getvalue()
            write_atomically(self.folder / f"{name}.piece", _digest(name, content) + content)

    @contextmanager
    def claim(self, name: str, wait: bool) -> Iterator[bool]:
        """Runs a block that holds the claim on a piece; yields False where another process has it and `wait` is off."""
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
        """Releases all claims: from now on any process may claim any piece."""
        for file in self._claims:
            fcntl.flock(file, fcntl.LOCK_UN)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


class Pieces:
    """Named pieces of an evaluation; iterating yields those that this process has to compute.

        pieces = Pieces(store, ["one", "two"])
        for name in pieces:
            pieces[name] = arrays

    Pieces that are neither finished nor claimed come first, then, as claims end, those that another process left
    unfinished. A piece stays claimed until the next one is taken.

    Args:
        store: of finished pieces.
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
        """Whether any process has finished a piece."""
        if self._finished[name] is None:
            self._finished[name] = self._store.read(name)
        return self._finished[name] is not None

    def __setitem__(self, name: str, arrays: Arrays) -> None:
        self._store.write(name, arrays)
        self._finished[name] = arrays

    def finished(self) -> list[Arrays]:
        """The arrays of all finished pieces, in the order of their names."""
        return [arrays for name in self._finished if name in self and (arrays := self._finished[name]) is not None]
