"""Run records: reading, writing, lookup, and their status as evidence. Imports no torch."""

from vaebench.records.arrays import PER_IMAGE
from vaebench.records.identities import (
    canonical,
    foreign_identity,
    identity,
    leaves,
    run_identity,
    seedless,
    setting_identity,
)
from vaebench.records.reading import LONGEST, read_record, read_records
from vaebench.records.record import CHECKPOINT, RECORD, Damage, Records, RunRecord, stable
from vaebench.records.writing import write_record

__all__ = [
    "CHECKPOINT",
    "LONGEST",
    "PER_IMAGE",
    "RECORD",
    "Damage",
    "Records",
    "RunRecord",
    "canonical",
    "foreign_identity",
    "identity",
    "leaves",
    "read_record",
    "read_records",
    "run_identity",
    "seedless",
    "setting_identity",
    "stable",
    "write_record",
]
