"""What a sweep chose its trials by: `validation.json` beside the record of a trial.

A record holds figures of the test images, by which nothing may be selected. These are of the validation images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import mean, median

from vaebench.records.claims import note, noted
from vaebench.records.fields import FieldKind, fault
from vaebench.records.record import RunRecord

VALIDATION = "validation.json"
MAXIMISE, MINIMISE = "maximise", "minimise"
COMBINE = {"mean": mean, "median": median}
"""How the figures of a trial's seeds become one."""
_KIND: FieldKind = {"objectives": {...: str}, "figures": {...: float}, "combine": str}


@dataclass(frozen=True)
class Validation:
    """Figures of the validation images by which a sweep compares its trials.

    Attributes:
        objectives: direction of each, 'maximise' or 'minimise'.
        figures: values of the same names, in their units.
        combine: how the figures of all seeds become the trial's, 'mean' or 'median'.
    """

    objectives: dict[str, str]
    figures: dict[str, float]
    combine: str = "mean"


def write_validation(
    record: RunRecord, objectives: Mapping[str, str], figures: Mapping[str, object], combine: str = "mean"
) -> None:
    """Writes the figures of a sweep's objectives beside a record, unless one of them is no finite number."""
    known = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    values = {name: known[name] for name in objectives if math.isfinite(known.get(name, math.nan))}
    found = Validation(dict(objectives), values, combine)
    if len(values) == len(objectives) and read_validation(record) != found:
        note(record, VALIDATION, asdict(found))


def read_validation(record: RunRecord) -> Validation | None:
    """The figures beside a record; None where there are none that are sound."""
    body = noted(record, VALIDATION)
    if body is None:
        return None
    own = {"combine": "mean"} | {key: body[key] for key in _KIND if key in body}
    if fault(own, _KIND):
        return None
    objectives, figures, combine = own["objectives"], own["figures"], own["combine"]
    sound = set(objectives) == set(figures) and set(objectives.values()) <= {MAXIMISE, MINIMISE} and combine in COMBINE
    return Validation(objectives, figures, combine) if sound and all(map(math.isfinite, figures.values())) else None
