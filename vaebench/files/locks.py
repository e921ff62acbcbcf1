"""Locks on folders, for one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

LOCK = "at-work.lock"  # in a locked folder, with the owner's identity


def first_process() -> bool:
    """Whether this process is the first or only one of a training, which writes its files."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK"))


class HeldError(Exception):
    """Another process holds the lock."""


@contextmanager
def alone_in(folder: Path, wait: bool = True) -> Iterator[None]:
    """Runs a block under a lock on a folder; other processes wait and print the owner.

    The system releases the lock when its owner dies. Of several processes of one training, the first locks for all.

    Args:
        folder: created, and removed if empty at the end.
        wait: for another process that holds the lock.

    Raises:
        HeldError: another process holds the lock, and this one is not to wait.
        OSError: the folder cannot be written to.
    """
    if not first_process():
        yield
        return
    lock = folder / LOCK
    with _owned(lock, wait):
        try:
            yield
        finally:
            with suppress(OSError):  # gone with its folder, or others have something there
                lock.unlink(missing_ok=True)
                folder.rmdir()


@contextmanager
def _owned(lock: Path, wait: bool) -> Iterator[None]:
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
                if not wait:
                    raise HeldError from None
                print(f"vaebench: {_who(file, lock.parent)}; waiting for it to end", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks
                yield
                return
            if not (lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())):
                continue  # its owner removed it meanwhile
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            file.truncate(0)
            file.write(json.dumps({"process": os.getpid(), "machine": platform.node(), "since": since}).encode())
            file.flush()
            yield
            return


def _who(file: BinaryIO, folder: Path) -> str:
    """The owner of a lock, in words."""
    try:
        file.seek(0)
        owner = json.loads(file.read())
        return f"process {owner['process']} on {owner['machine']} works in '{folder}' since {owner['since']}"
    except (ValueError, KeyError, TypeError):  # locked but not yet written
        return f"another process works in '{folder}'"
