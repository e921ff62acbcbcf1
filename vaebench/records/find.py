"""Lookup of records by folder, record.json, or a prefix of the id."""

from __future__ import annotations

from pathlib import Path

from vaebench.errors import UserError, unknown
from vaebench.records.reading import read_records
from vaebench.records.record import RECORD, RunRecord


def record_folder(name: str) -> Path:
    """The folder of a name that is a folder or the record.json in one."""
    path = Path(name)
    return path.parent if path.name == RECORD else path


def names_record(name: str, record: RunRecord, results: Path) -> bool:
    """Whether a name refers to a record: a prefix of its id, its folder's name, its folder, or its record.json.

    Args:
        name: from the user.
        record: any record.
        results: the folder of all records, to which a folder may be relative.
    """
    if name and record.id.startswith(name):
        return True
    places = (record_folder(name).resolve(), (results / record_folder(name)).resolve())
    return record.path is not None and (record.path.name == name or record.path.resolve() in places)


def find_record(name: str, results: Path) -> RunRecord:
    """The record of a name.

    Args:
        name: see `names_record`.
        results: the folder of all records; read only where `name` is neither a file nor a folder.

    Raises:
        UserError: no record or several of that name, or one that is damaged or of an unknown schema.
    """
    directory = record_folder(name)
    if directory.is_dir():
        records = read_records(directory)
        matches = [record for record in records if len(records) == 1 or record.path == directory]
        damaged = records.damaged
    else:
        records = read_records(results)
        matches = [record for record in records if names_record(name, record, results)]
        damaged = tuple(damage for damage in records.damaged if damage.path.name == name)
    if len(matches) == 1:
        return matches[0]
    if damaged and not matches:
        raise UserError(str(damaged[0]))
    if not directory.is_dir() and not matches:
        known = [Path(record.path or "").name for record in records]
        raise unknown("record", name, known, f"Give a record's folder, or an id that stands in '{results}'.")
    listed = ", ".join(str(record.path) for record in (matches or records)[:4])
    raise UserError(f"'{name}' may mean any of {len(matches or records)} records ({listed}, …): give the folder of one")
