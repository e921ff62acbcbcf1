"""The marked tables of docs/ are those of the records."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
MARKED = [path for path in tables.PAGES if tables.MARKED.search(path.read_text(encoding="utf-8"))]


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
