"""Run records, what they are worth, and how they are found. Imports no torch."""

from vaebench.records.record import (
    CHECKPOINT,
    LONGEST,
    PER_IMAGE,
    RECORD,
    Damage,
    Records,
    RunRecord,
    canonical,
    identity,
    read_record,
    read_records,
    run_identity,
    seedless,
    setting_identity,
    stable,
    write_record,
)

__all__ = [
    "CHECKPOINT",
    "LONGEST",
    "PER_IMAGE",
    "RECORD",
    "Damage",
    "Records",
    "RunRecord",
    "canonical",
    "identity",
    "read_record",
    "read_records",
    "run_identity",
    "seedless",
    "setting_identity",
    "stable",
    "write_record",
]
