"""What a run's training step costs beside the plain VAE's, timed in turns: `calibration.json` beside its record.

Seconds of a training depend on the day and on what else the machine did. The ratio of two steps that were timed in
turns hardly does, so that costs hold from one day to the next.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vaebench.records.claims import note, noted
from vaebench.records.fields import JSON, MACHINE, FieldKind, fault
from vaebench.records.record import RunRecord

CALIBRATION = "calibration.json"
_KIND: FieldKind = {
    "ratio": float, "low": float, "high": float, "pairs": int, "step_seconds": float, "reference_seconds": float,
    "reference": str, "flops": {...: JSON}, "machine": {**MACHINE, ...: JSON}, "at": str, ...: JSON,
}  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """Cost of a training step.

    Attributes:
        ratio: its seconds over those of the plain VAE's step, median of the pairs.
        low, high: interval of that median, at least 95 %.
        pairs: steps of the two that were timed in turns.
        step_seconds, reference_seconds: medians of the two.
        reference: what the plain VAE was.
        flops: of the step, as `cost` of a record has them: 'step_flops', 'step_images', 'uncounted'.
        machine: that timed them; see `vaebench.training.machine`.
        at: when, ISO 8601.
    """

    ratio: float
    low: float
    high: float
    pairs: int
    step_seconds: float
    reference_seconds: float
    reference: str
    flops: dict[str, Any]
    machine: dict[str, Any]
    at: str


def write_calibration(record: RunRecord, calibration: Calibration) -> None:
    """Writes it beside a record, in place of an older one."""
    note(record, CALIBRATION, asdict(calibration))


def read_calibration(record: RunRecord) -> Calibration | None:
    """The calibration beside a record; None where there is none that is sound."""
    body = noted(record, CALIBRATION)
    if body is None or fault(body, _KIND) or not body["step_seconds"] > 0 or not body["ratio"] > 0:
        return None
    return Calibration(**{name: body[name] for name in Calibration.__dataclass_fields__})
