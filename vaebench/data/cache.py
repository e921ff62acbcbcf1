"""The files that data sets are made of: found on disk or downloaded, unpacked, and checked before they are used."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pooch

from vaebench.errors import UserError

T = TypeVar("T")


class DamagedError(Exception):
    """What is wrong with a file, as the rest of a sentence that begins with the file's name."""


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Runs a block that reads a file of the user's, and says where it is when it is damaged.

    Raises:
        UserError: the block raises `DamagedError`.
    """
    try:
        yield
    except DamagedError as damage:
        raise UserError(f"'{path}' {damage}; put an intact copy in its place") from damage


@dataclass(frozen=True)
class File:
    """One published file.

    Args:
        name: its path in the data set's folder, not compressed; `name` + '.gz' is read in its place where it exists.
        url: where it is published, compressed or not; None where it cannot be downloaded on its own.
        checksum: of the uncompressed bytes, as 'algorithm:hex', where 'git' is the id of a git blob; None where the
            reader of the content checks it.
        installed: where a package of the system puts it, compressed where that ends in '.gz'; None where none does.
    """

    name: str
    url: str | None
    checksum: str | None = None
    installed: str | None = None


def data_folder(dataset: str) -> Path:
    """Where a data set's files lie: `$VAEBENCH_DATA/dataset`, by default in the user's cache directory."""
    root = os.environ.get("VAEBENCH_DATA")
    return (Path(root).expanduser() if root else Path(pooch.os_cache("vaebench"))) / dataset


def obtain(dataset: str, file: File, parse: Callable[[bytes], T]) -> T:
    """Reads, parses and checks one file; downloads it first where neither it nor its '.gz' is there or installed.

    A file that is there is used as it is and never changed. A download takes its place only after it was parsed and
    checked, so that a broken one never stays.

    Args:
        dataset: the data set's folder.
        file: what to read.
        parse: turns the uncompressed bytes into what is wanted, or raises `DamagedError`.

    Raises:
        UserError: the file is damaged, or it is missing and cannot be downloaded or stored.
    """
    place = data_folder(dataset)
    name, packed = place / file.name, place / f"{file.name}.gz"
    installed = [Path(file.installed)] if file.installed else []
    path = next((path for path in (name, packed, *installed) if path.is_file()), None)
    if path is None:
        return _download(place, file, parse)
    try:
        return _read(path, file, parse, compressed=path != name and path.suffix == ".gz")
    except DamagedError as damage:
        if path in installed:
            raise UserError(f"{path} {damage}; install its package again, or put an intact copy at {name}") from damage
        again = f"delete it to have it downloaded again from {file.url}, or " if file.url else ""
        raise UserError(f"{path} {damage}; {again}put an intact copy in its place") from damage
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): expected a file that this user may read; mend its "
            "permissions, or point VAEBENCH_DATA at another folder"
        ) from error


def check_checksum(content: bytes, checksum: str) -> None:
    """Compares bytes with a checksum written as in `File`; raises `DamagedError` where they differ."""
    algorithm, _, expected = checksum.partition(":")
    if algorithm == "git":
        actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        actual = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise DamagedError(f"has the {algorithm} checksum {actual} where {expected} was expected")


def _read(path: Path, file: File, parse: Callable[[bytes], T], compressed: bool) -> T:
    content = path.read_bytes()
    if compressed:
        content = unzip(content)
    parsed = parse(content)
    if file.checksum:
        check_checksum(content, file.checksum)
    return parsed


def unzip(content: bytes) -> bytes:
    """The content of a gzip file.

    Raises:
        DamagedError: it is none, or a damaged one.
    """
    try:
        return gzip.decompress(content)
    except EOFError as error:
        raise DamagedError(f"is truncated: expected a whole gzip file and found {len(content):,} bytes") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DamagedError("is no intact gzip file") from error


def _download(place: Path, file: File, parse: Callable[[bytes], T]) -> T:
    if file.url is None:
        raise UserError(
            f"{place / file.name} is missing and has no address of its own to be downloaded from: expected it there; "
            "put it there, or point VAEBENCH_DATA at a folder that holds it"
        )
    parsed: list[T] = []
    name = file.name if not file.url.endswith(".gz") or file.name.endswith(".gz") else f"{file.name}.gz"

    def checked(url: str, output: str, _: object) -> None:
        pooch.HTTPDownloader(progressbar=sys.stderr.isatty())(url, output, None)
        parsed.append(_read(Path(output), file, parse, compressed=name != file.name))

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(file.url, None, fname=name, path=place, downloader=checked)
    except DamagedError as damage:
        raise UserError(
            f"what {file.url} sent for {place / name} {damage}; nothing was kept, so try again later or put the file "
            "there yourself"
        ) from damage
    except OSError as error:
        raise UserError(_failure(error, place / name, file.url)) from error
    return parsed[0]


def _failure(error: OSError, path: Path, url: str) -> str:
    if error.errno == errno.ENOSPC:
        return (
            f"no room on the disk for {path}: expected space for {url}, of which nothing was kept; free some, or point "
            "VAEBENCH_DATA at a folder on another disk"
        )
    if error.errno is not None or isinstance(error, PermissionError):
        return (
            f"{path} is missing and cannot be stored ({error.strerror or 'permission denied'}): expected a folder that "
            f"this user may write to; put the file there from {url}, or point VAEBENCH_DATA at another folder"
        )
    response = getattr(error, "response", None)
    reason = type(error).__name__ if response is None else f"HTTP status {response.status_code}"
    return (
        f"{path} is missing and {url} could not be downloaded ({reason}): expected a connection that stays; try again, "
        "or fetch the file elsewhere and put it there"
    )
