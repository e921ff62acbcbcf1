"""The ranking metric of a benchmark: a small file beside its records.

    results/<benchmark>/rank.json     {"rank": "mig"}

It is not part of the records, whose ids do not depend on it.
"""

from __future__ import annotations

import json
from pathlib import Path

from vaebench.files import read_file, write_atomically
from vaebench.records.record import RunRecord

RANK, LONGEST = "rank.json", 2**12


def write_rank(folder: Path, figure: str) -> None:
    """Writes the ranking metric of a benchmark to the folder of its records, which is created."""
    write_atomically(folder / RANK, f"{json.dumps({'rank': figure})}\n".encode())


def read_rank(record: RunRecord) -> str | None:
    """The ranking metric of a run's benchmark; None where there is none or it cannot be read."""
    if record.path is None:
        return None
    try:
        return str(json.loads(read_file(record.path.parent, RANK, LONGEST))["rank"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
