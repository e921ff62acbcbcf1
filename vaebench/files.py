"""Files and folders that are either whole or absent."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from vaebench.errors import UserError

PARTIAL = ".partial"  # ends the name of a folder that is being written
_KEPT = 100  # letters of the folder's own name in it


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file through a temporary one in the same folder, so that no reader and no crash ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path, kind: str = "record") -> Iterator[Path]:
    """A folder under another name to write into, which is renamed to `path` at the end of the block, or removed.

    What writers of the same folder left that were killed goes with it.

    Args:
        path: must not exist. Its parents are made.
        kind: what it is called in the error.

    Raises:
        UserError: `path` exists.
    """
    taken = UserError(f"'{path}' exists and a {kind} is never overwritten; move it away or name another directory")
    if path.exists():
        raise taken
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:_KEPT]}.{uuid4().hex}{PARTIAL}")
    partial.mkdir()
    try:
        yield partial
        partial.rename(path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, Exception) and path.exists():  # of whatever kind: the winner took the files away under us
            raise taken from error
        raise
    if len(path.name) <= _KEPT:  # left by killed writers of this very folder; a living one is refused all the same
        for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}{PARTIAL}"):
            shutil.rmtree(left, ignore_errors=True)
