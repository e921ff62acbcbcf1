"""The marked tables of docs/ are those of the records."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from committed import committed

from vaebench.functional.regularisers import mmd

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
MARKS = (tables.MARKED, tables.FOLDERS)
MARKED = [path for path in tables.PAGES if any(mark.search(path.read_text(encoding="utf-8")) for mark in MARKS)]


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.stem)
def test_tables_are_those_of_the_records(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert tables.written(page) == page, "python docs/tables.py writes them anew"


def test_a_table_that_is_out_of_date_is_noticed() -> None:
    page = next(path for path in MARKED if path.stem == "decoders").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| vae |"))
    changed = page.replace(row, row.replace("1", "2"))
    assert changed != page
    assert tables.written(changed) == page


def test_every_folder_of_records_is_in_their_index() -> None:
    index = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[(\w+)\]", index, re.MULTILINE)) == {
        path.name for path in (ROOT / "results").iterdir() if path.is_dir()
    }


def test_every_remedy_lets_a_strong_decoder_read_more_of_z() -> None:
    records = {record.variant: record for record in committed("strong_decoder")}
    plain = records.pop("vae")
    assert set(records) == {"vlae", "free_bits", "warm_up", "aggressive"}
    for record in records.values():
        assert record.value("rate") > 2.9 * plain.value("rate")
        assert len(record.collapse["units"]) < len(plain.collapse["units"])
    drawn = (ROOT / "docs" / "figures" / "strong_decoder.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in ["vae", *records])


def test_what_the_page_says_of_objectives_far_below_the_vae() -> None:
    """Section 9 of objectives.md: curves of the held-out bound, and what the discrepancy costs in nats."""
    records = committed("objectives")
    refined = [record for record in records if record.protocol["name"] == "refined"]
    bounds = {name: [dict(zip(*run.curves["val/elbo"].values(), strict=True)) for run in refined if run.variant == name]
              for name in ("vae", "encoder_steps_vae", "mmd_vae")}  # fmt: skip
    (few,), steps = bounds["encoder_steps_vae"], list(bounds["vae"][0])
    assert steps[-1] == 7820
    assert len(bounds["vae"]) == len(bounds["mmd_vae"]) == 3
    assert all(vae[steps[-1] // 5] < few[steps[-1]] < vae[steps[-1]] for vae in bounds["vae"])
    highest = [steps.index(max(bound, key=bound.get)) + 1 for bound in bounds["mmd_vae"]]
    assert (min(highest), max(highest)) == (4, 7), "'from epoch 4 to 7 on'"
    assert all(bound[steps[-1]] < max(bound.values()) - 30 for bound in bounds["mmd_vae"])
    torch.manual_seed(0)
    prior = [torch.randn(100, 128, 50) for _ in range(2)]
    alike = torch.stack([1000 * mmd(a, b, "rbf") for a, b in zip(*prior, strict=True)])
    apart = torch.stack([1000 * mmd(a + 0.3, b, "rbf") for a, b in zip(*prior, strict=True)])
    assert float(alike.std()) == pytest.approx(1.2, abs=0.15)
    assert float(apart.mean()) == pytest.approx(31.5, abs=0.5)
