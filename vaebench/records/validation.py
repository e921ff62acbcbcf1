"""What a sweep chose its trials by: `validation.json` beside the record of a trial.

A record holds figures of the test images, by which nothing may be selected. These are of the validation images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vaebench.records.claims import note, noted
from vaebench.records.fields import FieldKind, fault
from vaebench.records.record import RunRecord

VALIDATION = "validation.json"
MAXIMISE, MINIMISE = "maximise", "minimise"
_KIND: FieldKind = {"objectives": {...: str}, "figures": {...: float}}


@dataclass(frozen=True)
class Validation:
    """Figures of the validation images by which a sweep compares its trials.

    Attributes:
        objectives: direction of each, 'maximise' or 'minimise'.
        figures: values of the same names, in their units.
    """

    objectives: dict[str, str]
    figures: dict[str, float]


def write_validation(record: RunRecord, objectives: Mapping[str, str], figures: Mapping[str, object]) -> None:
    """Writes the figures of a sweep's objectives beside a record, unless one of them is no finite number."""
    known = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    values = {name: known[name] for name in objectives if math.isfinite(known.get(name, math.nan))}
    found = Validation(dict(objectives), values)
    if len(values) == len(objectives) and read_validation(record) != found:
        note(record, VALIDATION, asdict(found))


def read_validation(record: RunRecord) -> Validation | None:
    """The figures beside a record; None where there are none that are sound."""
    body = noted(record, VALIDATION)
    if body is None or fault({key: body.get(key) for key in _KIND}, _KIND):
        return None
    objectives, figures = body["objectives"], body["figures"]
    sound = set(objectives) == set(figures) and set(objectives.values()) <= {MAXIMISE, MINIMISE}
    return Validation(objectives, figures) if sound and all(map(math.isfinite, figures.values())) else None
