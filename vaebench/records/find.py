"""Which record is meant: its folder, its record.json, or the start of its id among all results."""

from __future__ import annotations

from pathlib import Path

from vaebench.errors import UserError, unknown
from vaebench.records.reading import read_records
from vaebench.records.record import RECORD, RunRecord


def record_folder(name: str) -> Path:
    """The folder that a name stands for where it is one, or the record.json in one."""
    path = Path(name)
    return path.parent if path.name == RECORD else path


def names_record(name: str, record: RunRecord, results: Path) -> bool:
    """Whether a name stands for a record: the start of its id, its folder's name, its folder, or its record.json.

    Args:
        name: as the user gives it.
        record: any.
        results: the folder of all records, from which a folder may be named too.
    """
    if name and record.id.startswith(name):
        return True
    places = (record_folder(name).resolve(), (results / record_folder(name)).resolve())
    return record.path is not None and (record.path.name == name or record.path.resolve() in places)


def find_record(name: str, results: Path) -> RunRecord:
    """The record that `name` means.

    Args:
        name: see `names_record`.
        results: the folder of all records; read only where `name` is no file or folder.

    Raises:
        UserError: no record or several of that name, or one that is damaged or of a schema that is not known.
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
