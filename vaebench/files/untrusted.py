"""Safe reading of untrusted files of records and cards: plain names, no links, no devices, size limits."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from vaebench.errors import UserError
from vaebench.files.atomic import naming_path

_NAME = re.compile(r"\w[\w.+=@-]{0,120}", re.ASCII)


_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)  # which Windows opens in every folder


def is_plain(name: object) -> bool:
    """Whether a string is admissible as a file name in a record or card: ASCII, no folder, no hidden or device file.

    >>> is_plain("samples.png"), is_plain("../x"), is_plain("/etc/passwd"), is_plain("NUL.png"), is_plain("x.png\\n")
    (True, False, False, False, False)
    """
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and name[-1] != "." and not _DEVICE.fullmatch(name)


def require_folder_name(name: str, what: str) -> str:
    """Checks that the name of a benchmark or sweep can be that of a folder, and returns it.

    Args:
        name: from the file.
        what: object of the name, and the file, for the error.

    Raises:
        UserError: it contains a path separator, is hidden, or is too long for file systems.
    """
    odd = not name.isprintable() or "/" in name or "\\" in name or len(name.encode()) > 200
    if odd or not name.strip() or name[0] == ".":
        raise UserError(
            f"{what} is named {name[:100]!r}: expected what can be a folder's name, without / and without a dot at its "
            "beginning; give it another one"
        )
    return name


def open_file(folder: Path, name: str) -> BinaryIO:
    """Opens a file of an untrusted record or card for reading.

    Args:
        folder: of the record or card.
        name: of the file, from the record or card.

    Raises:
        OSError: the name is not plain, or it is not a regular file: a link may lead to any file of this machine, and a
            device or pipe never ends.
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
        OSError: as in `open_file`, or it has more than `most` bytes.
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
