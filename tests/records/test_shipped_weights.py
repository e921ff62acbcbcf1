"""Weights that come with the repository are those that their records measured."""

from __future__ import annotations

from pathlib import Path

import pytest

import vaebench as vb
from vaebench.records import read_record
from vaebench.running.recording import weights_hash

RESULTS = Path(__file__).parents[2] / "results"
SHIPPED = sorted(RESULTS.rglob("model.ckpt"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_weights_are_what_their_record_measured(path: Path) -> None:
    assert weights_hash(vb.load(path)) == (read_record(path.parent).checkpoint or {})["weights"]


def test_the_plain_vae_and_the_best_hierarchy_come_with_weights() -> None:
    assert {"vae", "vamp_hvae"} <= {path.parent.name.partition("-s")[0] for path in SHIPPED}


def test_all_records_stay_below_80_megabytes() -> None:
    assert sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()) < 80e6
