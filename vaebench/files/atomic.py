"""Files and folders that are either whole or absent."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from vaebench.errors import UserError

PARTIAL = ".partial"  # ends the name of a file or folder that is being written
_KEPT = 100  # letters of the file's or folder's own name in it
_HEX = "[0-9a-f]" * 32


def write_atomically(path: Path, content: bytes | memoryview, before: Path | None = None) -> None:
    """Writes a file through another one in the same folder, so that no reader, crash or full disk leaves half of it.

    When it returns, the file is on the disk. What writers of the same file left that were killed goes.

    Args:
        path: the file; its folder is made.
        content: of it.
        before: where a file that is there goes; None replaces it. A kill between the two leaves it there alone.

    Raises:
        OSError: it cannot be written; its `filename` is set, and a file that was there is intact.
    """
    with naming_path(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(path)
        file, partial = _create(path)
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if before is not None and path.exists():
                    path.replace(before)
                partial.replace(path)  # still locked: nobody takes it for one of a dead writer
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def _create(path: Path) -> tuple[BinaryIO, Path]:
    """A new file to write into beside `path`, locked for as long as it is open."""
    while True:
        partial = path.with_name(f".{path.name[:_KEPT]}.{uuid4().hex}{PARTIAL}")
        file = partial.open("xb")
        _lock(file)
        if os.fstat(file.fileno()).st_nlink:  # else removed before it was locked
            return file, partial
        file.close()


def remove_partial(path: Path) -> None:
    """Removes what writers of a file left beside it that were killed."""
    for left in path.parent.glob(f".{glob.escape(path.name[:_KEPT])}.{_HEX}{PARTIAL}"):
        with suppress(OSError), left.open("rb") as file:  # a folder, or gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held while its writer lives
            left.unlink()


def _lock(file: BinaryIO) -> None:
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)


def _sync(path: Path) -> None:
    """Has the disk hold what a file, or the list of names in a folder, is now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot
            raise
    finally:
        os.close(descriptor)


@contextmanager
def naming_path(path: Path) -> Iterator[None]:
    """A block whose OSErrors name a file or folder: those of writing, as to a full disk, name none by themselves."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def rewrite(path: Path, written: Callable[[str], str]) -> bool:
    """Replaces a text file by what a function makes of its text, where that differs; whether it did."""
    text = path.read_text(encoding="utf-8")
    if (new := written(text)) != text:
        write_atomically(path, new.encode())
    return new != text


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's content; where there is no room for it, the error names the target."""
    with naming_path(target), source.open("rb") as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy, 2**20)


@contextmanager
def whole_folder(path: Path, kind: str = "record") -> Iterator[Path]:
    """A folder under another name to write into, which is renamed to `path` at the end of the block, or removed.

    When the block has ended, the folder is on the disk. What writers of the same folder left that were killed goes.

    Args:
        path: must not exist. Its parents are made.
        kind: what it is called in the error.

    Raises:
        UserError: `path` exists.
        OSError: it cannot be written; its `filename` is set.
    """
    taken = UserError(f"'{path}' exists and a {kind} is never overwritten; move it away or name another directory")
    if path.exists():
        raise taken
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:_KEPT]}.{uuid4().hex}{PARTIAL}")
    partial.mkdir()
    try:
        with naming_path(path):
            yield partial
            for written in (*partial.rglob("*"), partial):
                _sync(written)
        partial.rename(path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, Exception) and path.exists():  # of whatever kind: the winner took the files away under us
            raise taken from error
        raise
    _sync(path.parent)
    if len(path.name) <= _KEPT:  # left by killed writers of this very folder; a living one is refused all the same
        for left in path.parent.glob(f".{glob.escape(path.name)}.{_HEX}{PARTIAL}"):
            shutil.rmtree(left, ignore_errors=True)
