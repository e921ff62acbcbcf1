"""Which record is meant: its folder, its record.json, or the start of its id among all results."""

from __future__ import annotations

from pathlib import Path

from vaebench.errors import UserError, unknown
from vaebench.records.record import RECORD, RunRecord, read_records


def find_record(name: str, results: Path) -> RunRecord:
    """The record that `name` means.

    Args:
        name: a record's folder, its record.json, or the folder's name or the beginning of an id below `results`.
        results: the folder of all records; read only where `name` is no file or folder.

    Raises:
        UserError: no record or several of that name, or one that is damaged or of a schema that is not known.
    """
    path = Path(name)
    directory = path.parent if path.name == RECORD else path
    if directory.is_dir():
        records = read_records(directory)
        found = [record for record in records if len(records) == 1 or record.path == directory]
        damaged = records.damaged
    else:
        records = read_records(results)
        found = [record for record in records if record.id.startswith(name) or Path(record.path or "").name == name]
        damaged = tuple(damage for damage in records.damaged if damage.path.name == name)
    if len(found) == 1:
        return found[0]
    if damaged and not found:
        raise UserError(str(damaged[0]))
    if not directory.is_dir() and not found:
        known = [Path(record.path or "").name for record in records]
        raise unknown("record", name, known, f"Give a record's folder, or an id that stands in '{results}'.")
    listed = ", ".join(str(record.path) for record in (found or records)[:4])
    raise UserError(f"'{name}' may mean any of {len(found or records)} records ({listed}, …): give the folder of one")
