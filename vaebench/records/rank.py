"""The figure that the runs of a benchmark are ranked by: a small file beside their records.

    results/<benchmark>/rank.json     {"rank": "mig"}

It is no part of the records, whose ids do not depend on what one looks at first.
"""

from __future__ import annotations

import json
from pathlib import Path

from vaebench.files import read_file, write_atomically
from vaebench.records.record import RunRecord

RANK, LONGEST = "rank.json", 2**12


def write_rank(folder: Path, figure: str) -> None:
    """Notes the figure of a benchmark in the folder of its records, which is made."""
    write_atomically(folder / RANK, f"{json.dumps({'rank': figure})}\n".encode())


def read_rank(record: RunRecord) -> str | None:
    """The figure that a run's benchmark names; None where it names none, or what stands there cannot be read."""
    if record.path is None:
        return None
    try:
        return str(json.loads(read_file(record.path.parent, RANK, LONGEST))["rank"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
