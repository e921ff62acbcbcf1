"""Atomic writing of files, safe reading of untrusted ones, and locks on folders."""

from vaebench.files.atomic import (
    PARTIAL,
    copy_file,
    naming_path,
    remove_partial,
    rewrite,
    temporary,
    whole_folder,
    write_atomically,
    written,
)
from vaebench.files.locks import LOCK, HeldError, alone_in, first_process
from vaebench.files.untrusted import hash_file, is_plain, open_file, read_file, require_folder_name, take_file

__all__ = [
    "LOCK",
    "PARTIAL",
    "HeldError",
    "alone_in",
    "copy_file",
    "first_process",
    "hash_file",
    "is_plain",
    "naming_path",
    "open_file",
    "read_file",
    "remove_partial",
    "require_folder_name",
    "rewrite",
    "take_file",
    "temporary",
    "whole_folder",
    "write_atomically",
    "written",
]
