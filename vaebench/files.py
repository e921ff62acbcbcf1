"""Files and folders that are either whole or absent, and folders that one process at a time works in."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from vaebench.errors import UserError

PARTIAL = ".partial"  # ends the name of a file or folder that is being written
LOCK = "at-work.lock"  # in a folder that a process works in: who it is
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


# Files that may be a stranger's: of records and cards -------------------------------------------------------------

_NAME = re.compile(r"\w[\w.+=@-]{0,120}", re.ASCII)
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)  # which Windows opens in every folder


def is_plain(name: object) -> bool:
    """Whether a text may be the name of a file that a record or card has: ASCII, no folder, no hidden or device file.

    >>> is_plain("samples.png"), is_plain("../x"), is_plain("/etc/passwd"), is_plain("NUL.png"), is_plain("x.png\\n")
    (True, False, False, False, False)
    """
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and name[-1] != "." and not _DEVICE.fullmatch(name)


def rewrite(path: Path, written: Callable[[str], str]) -> bool:
    """Replaces a text file by what a function makes of its text, where that differs; whether it did."""
    text = path.read_text(encoding="utf-8")
    if (new := written(text)) != text:
        write_atomically(path, new.encode())
    return new != text


def require_folder_name(name: str, what: str) -> str:
    """The name of a benchmark or sweep, if a folder of records can have it.

    Args:
        name: as the file gives it.
        what: it is the name of, and the file, for the error.

    Raises:
        UserError: it leads elsewhere, is hidden, or is longer than file systems take.
    """
    odd = not name.isprintable() or "/" in name or "\\" in name or len(name.encode()) > 200
    if odd or not name.strip() or name[0] == ".":
        raise UserError(
            f"{what} is named {name[:100]!r}: expected what can be a folder's name, without / and without a dot at its "
            "beginning; give it another one"
        )
    return name


def open_file(folder: Path, name: str) -> BinaryIO:
    """Opens a file of a record or card, whose files may be a stranger's, for reading.

    Args:
        folder: of the record or card.
        name: of the file, as the record or card has it.

    Raises:
        OSError: the name is not plain, or what has it is no ordinary file: a link may lead to any file of this machine,
            and a device or pipe never ends.
    """
    path = folder / name if is_plain(name) else Path(repr(name))
    if not is_plain(name):
        raise OSError(errno.EINVAL, "a file in a folder of records has a plain name, and this is none", str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a link, where the file itself is expected", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return os.fdopen(descriptor, "rb")


def read_file(folder: Path, name: str, most: int) -> bytes:
    """The content of a file that `open_file` opens.

    Raises:
        OSError: as `open_file`, or it has more than `most` bytes.
    """
    with open_file(folder, name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(folder / name))
    return content


def hash_file(folder: Path, name: str) -> str:
    """SHA-256 of a file that `open_file` opens, 64 hex digits."""
    digest = hashlib.sha256()
    with open_file(folder, name) as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def take_file(folder: Path, name: str, into: Path) -> None:
    """Copies a file that `open_file` opens into another folder, under the same name."""
    target = into / name
    with open_file(folder, name) as file, naming_path(target), target.open("xb") as copy:
        shutil.copyfileobj(file, copy, 2**20)


# ------------------------------------------------------------------------------------------------------------------


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


def first_process() -> bool:
    """Whether this process is the first, or the only one, of those that train a run: the one that writes."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK"))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A block that one process at a time executes for a folder; others say whom they wait for.

    The system lifts the lock when its owner dies, so that nothing waits for the dead. Of several processes that train
    a run together, the first one locks for all.

    Args:
        folder: is made, and removed if nothing is in it at the end.

    Raises:
        OSError: the folder cannot be written to.
    """
    if not first_process():
        yield
        return
    lock = folder / LOCK
    with _owned(lock):
        try:
            yield
        finally:
            with suppress(OSError):  # gone with its folder, or others have something there
                lock.unlink(missing_ok=True)
                folder.rmdir()


@contextmanager
def _owned(lock: Path) -> Iterator[None]:
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("a+b")
        except FileNotFoundError:  # its folder was removed meanwhile
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"vaebench: {_who(file, lock.parent)}; waiting for it to end", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks
                yield
                return
            if not (lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())):
                continue  # its owner has removed it while we waited
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            file.truncate(0)
            file.write(json.dumps({"process": os.getpid(), "machine": platform.node(), "since": since}).encode())
            file.flush()
            yield
            return


def _who(file: BinaryIO, folder: Path) -> str:
    """Who works in a folder, as the lock's owner has it."""
    try:
        file.seek(0)
        owner = json.loads(file.read())
        return f"process {owner['process']} on {owner['machine']} works in '{folder}' since {owner['since']}"
    except (ValueError, KeyError, TypeError):  # locked just now, and not written yet
        return f"another process works in '{folder}'"
