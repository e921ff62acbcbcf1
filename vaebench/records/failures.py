"""Runs of a benchmark that ended without a record: one small file each beside the records, shown on boards.

results/<benchmark>/<variant>-s<seed>-<id>.failed.json     what was run, and why it has no record (`Failure`)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vaebench.files import write_atomically
from vaebench.records.fields import RECORD as KINDS
from vaebench.records.fields import FieldKind, fault
from vaebench.records.identities import identity
from vaebench.records.record import RECORD, Damage

ENDING, SCHEMA = ".failed.json", 1
FIELDS: FieldKind = {
    **{name: KINDS[name] for name in ("id", "family", "variant", "benchmark", "seed", "config", "data", "surrogate")},
    **dict.fromkeys(("kind", "reason", "digest"), str),
    "schema": int,
}


@dataclass(frozen=True)
class Failure:
    """A run without a record; common fields are those of `RunRecord`.

    Attributes:
        kind: 'diverged', which is not retried, or 'failed', which is.
        reason: the cause, in a sentence.
    """

    id: str
    family: str
    variant: str
    benchmark: str | None
    seed: int
    config: dict[str, Any]
    data: dict[str, Any]
    surrogate: bool
    kind: Literal["diverged", "failed"]
    reason: str


def failure_path(directory: Path) -> Path:
    """The file for the failure of a run whose record would be in a directory."""
    return directory.with_name(directory.name + ENDING)


def write_failure(path: Path, failure: Failure) -> None:
    """Writes a failure with a digest of its content."""
    body = {**asdict(failure), "schema": SCHEMA}
    text = json.dumps({**body, "digest": identity(**body)}, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())


def read_failure(path: Path) -> Failure | Damage:
    """The failure in a file, or its damage."""
    again = "delete it and run the benchmark again"
    try:
        body = json.loads(path.read_bytes())
        wrong = fault(body, FIELDS)
        if wrong is None and not (body["schema"] == SCHEMA and body["kind"] in ("diverged", "failed")):
            wrong = f"has schema {body['schema']!r:.60} or kind {body['kind']!r:.60}, which this version does not know"
        if wrong is None and body.pop("digest") != identity(**body):
            wrong = "is not what was written: its digest does not match"
    except (OSError, ValueError, RecursionError) as error:
        wrong = f"cannot be read ({error})"
    return Damage(path, f"{wrong}; {again}") if wrong else _failure(body)


def _failure(body: Mapping[str, Any]) -> Failure:
    return Failure(**{name: value for name, value in body.items() if name != "schema"})


def read_failures(root: Path) -> tuple[tuple[Failure, ...], tuple[Damage, ...]]:
    """The failures below a directory, sorted by path, and damaged ones; those of runs with a record are left out."""
    paths = [
        p for p in sorted(root.rglob(f"*{ENDING}")) if not (p.with_name(p.name.removesuffix(ENDING)) / RECORD).exists()
    ]
    failures = [read_failure(path) for path in paths]
    return (
        tuple(one for one in failures if isinstance(one, Failure)),
        tuple(one for one in failures if isinstance(one, Damage)),
    )
