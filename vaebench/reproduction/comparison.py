"""Comparison of a record with its repetition: a verdict on every metric, and all other differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaebench.configuration.former import current_run
from vaebench.configuration.gate import from_elsewhere
from vaebench.configuration.parts import canonical_config
from vaebench.records import RunRecord, canonical, foreign_identity, identity, leaves, run_identity
from vaebench.reproduction.tolerance import DIFFERENT, UNCOMPARED, Finding, judge

COST = ("parameters", "step_flops", "evaluation_flops")
CODE = ("commit", "dirty", "source", "vaebench")


@dataclass(frozen=True)
class Difference:
    """A difference other than in metrics: its group, its name, the recorded value, and the current one."""

    group: str
    name: str
    recorded: Any
    measured: Any


@dataclass(frozen=True)
class RecordComparison:
    """The result of a comparison.

    Attributes:
        findings: on every metric of either record.
        differences: of settings, environment, code, data and all results besides metrics.
        equal: names of equal results that were compared as a whole.
        allowed: accepted classes of agreement.
    """

    findings: tuple[Finding, ...]
    differences: tuple[Difference, ...]
    equal: tuple[str, ...]
    allowed: tuple[str, ...]

    @property
    def different(self) -> list[str]:
        """The metrics that do not agree."""
        return [finding.metric for finding in self.findings if finding.verdict == DIFFERENT]

    @property
    def former(self) -> list[str]:
        """The recorded metrics that were not measured again, since their definition has changed."""
        return [f.metric for f in self.findings if f.verdict == UNCOMPARED and f.recorded is not None]

    @property
    def widest(self) -> str:
        """The widest class of agreement in use; `DIFFERENT` where a metric does not agree."""
        order = (*self.allowed, DIFFERENT)
        verdicts = (finding.verdict for finding in self.findings if finding.verdict != UNCOMPARED)
        return max(verdicts, key=order.index, default=self.allowed[0])


def compare_records(recorded: RunRecord, measured: RunRecord, allowed: Sequence[str]) -> RecordComparison:
    """Compares a record with its repetition.

    Args:
        recorded: the record.
        measured: its repetition.
        allowed: accepted classes of agreement; see `vaebench.reproduction.tolerance`.
    """
    arrays = recorded.per_image(), measured.per_image()
    findings = [
        judge(
            name,
            recorded.metrics.get(name),
            measured.metrics.get(name),
            (arrays[0].get(name), arrays[1].get(name)),
            allowed,
        )
        for name in sorted({*recorded.metrics, *measured.metrics})
    ]
    wholes: dict[str, list[Any]] = {
        "weights": [(r.checkpoint or {}).get("weights") for r in (recorded, measured)],
        "figures of every image": [_bytes(each) for each in arrays],
        **{
            name: [getattr(r, name) for r in (recorded, measured)]
            for name in ("curves", "units", "tables", "collapse", "warnings")
        },
        "pictures": [_bytes({name: r.pixels(name) for name in r.pictures()}) for r in (recorded, measured)],
    }
    same = {name: canonical(a) == canonical(b) for name, (a, b) in wholes.items()}
    differences = [
        *_between("setting", *(canonical_config(current_run(r.config)) for r in (recorded, measured))),
        *_between("protocol", recorded.protocol, measured.protocol),
        *_between("data", recorded.data, measured.data),
        *_between("code", *({name: r.environment.get(name) for name in CODE} for r in (recorded, measured))),
        *_between("environment", *(_environment(r) for r in (recorded, measured))),
        *_between("cost", *({name: r.cost[name] for name in _costs(recorded, measured)} for r in (recorded, measured))),
        *_between("run", *(_run(r, {recorded.schema, measured.schema}) for r in (recorded, measured))),
        *(_whole(name, *wholes[name]) for name in same if not same[name]),
    ]  # fmt: skip
    return RecordComparison(
        tuple(findings), tuple(differences), tuple(name for name in same if same[name]), tuple(allowed)
    )


def _costs(recorded: RunRecord, measured: RunRecord) -> list[str]:
    """Costs that both records hold: those of another version have other definitions."""
    return [name for name in COST if name in recorded.cost and name in measured.cost]


def _bytes(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: array.tobytes().hex() for name, array in arrays.items()}


def _environment(record: RunRecord) -> dict[str, Any]:
    rest = {name: value for name, value in record.environment.items() if name not in CODE}
    return {**rest, "device": record.cost.get("device"), "threads": record.cost.get("threads")}


def _run(record: RunRecord, schemas: set[int]) -> dict[str, Any]:
    """Fields of a record about its run, with its id only where both ids have the same formula."""
    names = ("family", "seed", "surrogate", "started_at_mean", "selection")
    alike = len({schema > 2 for schema in schemas}) == 1
    return {name: getattr(record, name) for name in (*(("id",) if alike else ()), *names)}


def _between(group: str, recorded: Any, measured: Any) -> Iterator[Difference]:
    a, b = dict(leaves(recorded)), dict(leaves(measured))
    for name in sorted({*a, *b}):
        if canonical(a.get(name)) != canonical(b.get(name)):
            yield Difference(group, name, a.get(name), b.get(name))


def _whole(name: str, recorded: Any, measured: Any) -> Difference:
    """A summary of a difference that is too long to show: names in it, the beginning of a hash, or its size."""
    if isinstance(recorded, Mapping) and isinstance(measured, Mapping):
        names = [key for key in sorted({*recorded, *measured}) if recorded.get(key) != measured.get(key)]
        return Difference("result", f"{name}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}", "", "")
    shown = [value if isinstance(value, str | None) else f"{len(value)} of them" for value in (recorded, measured)]
    return Difference("result", name, *shown)


def altered(record: RunRecord) -> str | None:
    """A sentence where a record's id does not follow from its configuration, seed, data and protocol; else None."""
    if "measurements" not in record.protocol:  # the first version of the protocols, which had other determinants
        return None
    hashes = record.data["hashes"]
    if from_elsewhere(record.config):
        run = foreign_identity(record.config, (record.checkpoint or {}).get("weights"), record.seed, hashes)
    else:
        run = run_identity(record.config, record.seed, hashes, record.schema)
    protocol = {name: record.protocol.get(name) for name in ("version", "name", "seed", "k", "measurements")}
    limits = (None, record.protocol["n"], record.protocol.get("limit"))
    ids = [identity(run=run, protocol={**protocol, "limit": limit}) for limit in limits]
    if record.id in ids:
        return None
    return (
        f"the id {record.id} does not follow from the record's configuration, seed, data and protocol: one of them was "
        "changed after the run, or other code than vaebench wrote the record"
    )
