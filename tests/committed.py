"""The records of the repository, read once a process; tests look at them and change nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from vaebench.records import Records, RunRecord, read_records

RESULTS = Path(__file__).parents[1] / "results"


@cache
def committed(folder: str = "") -> Records:
    """The records below a folder of `results/`, all without one."""
    return read_records(RESULTS / folder)


def trained_here() -> list[RunRecord]:
    """The records of models that vaebench trained; others name no family."""
    return [record for record in committed() if "adapter" not in record.config["model"]]
