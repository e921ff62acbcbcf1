"""Atomic writing of files and folders."""

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

PARTIAL = ".partial"  # suffix of an unfinished file or folder
_KEPT = 100  # characters of the file's or folder's name in that of the unfinished one
_HEX = "[0-9a-f]" * 32


def write_atomically(path: Path, content: bytes | memoryview, before: Path | None = None) -> None:
    """Writes a file atomically, through a temporary file in the same folder, and syncs it to the disk.

    Removes temporary files of killed writers of the same file.

    Args:
        path: the file; its folder is created.
        content: its content.
        before: new path of an existing file; None replaces it. A kill between the two steps leaves only `before`.

    Raises:
        OSError: it cannot be written; its `filename` is set, and an existing file is intact.
    """
    with written(path, before) as file:
        file.write(content)


@contextmanager
def written(path: Path, before: Path | None = None) -> Iterator[BinaryIO]:
    """A new file, open for writing, that gets its place once the block has ended; otherwise as `write_atomically`."""
    with naming_path(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(path)
        file, partial = _create(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if before is not None and path.exists():
                    path.replace(before)
                partial.replace(path)  # still locked, so that no process removes it as that of a dead writer
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def temporary(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`, open for reading and writing, that is removed at the end of the block."""
    file, partial = _create(path)
    try:
        with file:
            yield file
    finally:
        partial.unlink(missing_ok=True)


def _create(path: Path) -> tuple[BinaryIO, Path]:
    """A new temporary file beside `path`, locked while it is open."""
    while True:
        partial = path.with_name(f".{path.name[:_KEPT]}.{uuid4().hex}{PARTIAL}")
        file = partial.open("x+b")
        _lock(file)
        if os.fstat(file.fileno()).st_nlink:  # else removed before it was locked
            return file, partial
        file.close()


def remove_partial(path: Path) -> None:
    """Removes the temporary files of killed writers of a file, or of all files in a folder."""
    name = "" if path.is_dir() else glob.escape(path.name[:_KEPT])
    for left in (path if path.is_dir() else path.parent).glob(f".{name or '*'}.{_HEX}{PARTIAL}"):
        with suppress(OSError), left.open("rb") as file:  # a folder, or gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held while its writer lives
            left.unlink()


def _lock(file: BinaryIO) -> None:
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)


def _sync(path: Path) -> None:
    """Syncs a file, or the list of names in a folder, to the disk."""
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
    """Adds a path to OSErrors of a block that have none, such as those of writing to a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def rewrite(path: Path, written: Callable[[str], str]) -> bool:
    """Rewrites a text file by a function of its text; returns whether it changed."""
    text = path.read_text(encoding="utf-8")
    if (new := written(text)) != text:
        write_atomically(path, new.encode())
    return new != text


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's content; errors of writing name the target."""
    with naming_path(target), source.open("rb") as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy, 2**20)


@contextmanager
def whole_folder(path: Path, kind: str = "record") -> Iterator[Path]:
    """A temporary folder, which is synced and renamed to `path` at the end of the block, or removed on an error.

    Removes temporary folders of killed writers of the same folder.

    Args:
        path: must not exist. Its parents are created.
        kind: of the folder, for the error.

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
        if isinstance(error, Exception) and path.exists():  # of any kind, since another writer has removed the files
            raise taken from error
        raise
    _sync(path.parent)
    if len(path.name) <= _KEPT:  # left by killed writers of this very folder; a living one is refused all the same
        for left in path.parent.glob(f".{glob.escape(path.name)}.{_HEX}{PARTIAL}"):
            shutil.rmtree(left, ignore_errors=True)
