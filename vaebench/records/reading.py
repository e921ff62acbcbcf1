"""Reads records, and checks each against its digest and its files' checksums."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaebench.errors import UserError
from vaebench.files import PARTIAL, hash_file, read_file
from vaebench.records.arrays import PER_IMAGE, misshapen
from vaebench.records.content import digest_of, malformed, rendered
from vaebench.records.identities import SCHEMA
from vaebench.records.record import RECORD, Damage, Records, RunRecord

OLDER: dict[int, dict[str, Any]] = {1: {"tables": {}, "warnings": []}, 2: {}}  # missing fields of older schemas


LONGEST = 2**26  # largest record.json, bytes; large ones have 2**17


def read_records(path: str | Path) -> Records:
    """Every record below a directory, checked against its digest and its files' checksums.

    Raises:
        UserError: the directory does not exist, or holds no record at all, not even a damaged one.
    """
    root = Path(path)
    remedy = "pass a directory with the records that `vaebench bench` or `vaebench evaluate` wrote"
    if not root.is_dir():
        raise UserError(f"no directory '{root}' to read records from; {remedy}")
    damaged: list[Damage] = []
    runs = [_read(directory) for directory in _directories(root, damaged)]
    records = Records(record for record in runs if isinstance(record, RunRecord))
    records.root = root
    records.damaged = (*damaged, *(damage for damage in runs if isinstance(damage, Damage)))
    if not records and not records.damaged:
        raise UserError(f"no {RECORD} anywhere below '{root}'; {remedy}")
    return records


def read_record(directory: Path) -> RunRecord:
    """The record in one folder.

    Raises:
        UserError: it is damaged.
    """
    record = _read(directory)
    if isinstance(record, Damage):
        raise UserError(str(record))
    return record


def _directories(root: Path, damaged: list[Damage]) -> Iterator[Path]:
    """Directories with a run or an unfinished one, sorted; those that cannot be listed are reported as damaged."""

    def unreadable(error: OSError) -> None:
        damaged.append(Damage(Path(error.filename), f"cannot be listed ({error.strerror}); mend its permissions"))

    for directory, below, files in os.walk(root, onerror=unreadable):
        below.sort()
        if directory.endswith(PARTIAL) or RECORD in files or PER_IMAGE in files:
            yield Path(directory)


def _read(directory: Path) -> RunRecord | Damage:
    """The record of one run, or its damage: a file that is missing or altered, or an unknown schema."""
    again = "restore it or run it again"
    if directory.name.endswith(PARTIAL):
        return Damage(directory, "was never finished: its writer was killed or is at work; delete it if no run is")
    try:
        raw = read_file(directory, RECORD, LONGEST)
        body = json.loads(raw)
        schema = body.get("schema") if isinstance(body, dict) else None
        if type(schema) is not int or (schema != SCHEMA and schema not in OLDER):
            return Damage(directory, f"{RECORD} has schema {schema!r:.60}, not {SCHEMA}; update vaebench or {again}")
        intact = body.get("digest") == digest_of(body) and rendered(body) == raw
        body = {**OLDER.get(schema, {}), **body}
    except (OSError, ValueError, RecursionError) as error:
        return Damage(directory, f"{RECORD} cannot be read ({error}); {again}")
    if wrong := malformed(body) if intact else "is not what was written: its digest does not match":
        return Damage(directory, f"{RECORD} {wrong}; {again}")
    for name, checksum in body["files"].items():
        try:
            actual = hash_file(directory, name)
        except OSError as error:
            return Damage(directory, f"{name} cannot be read ({error.strerror}); {again}")
        if actual != checksum:
            return Damage(directory, f"{name} is not what was written: its SHA-256 does not match; {again}")
        if name == PER_IMAGE and (wrong := misshapen(directory)):
            return Damage(directory, f"{name} {wrong}; {again}")
    return RunRecord(**body, path=directory)
