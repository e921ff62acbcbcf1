"""docs/findings.md says what the records say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from vaebench.leaderboard import boards
from vaebench.records import read_records

ROOT = Path(__file__).parents[2]


def test_the_page_and_its_pictures_are_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))  # where it finds the style of all figures
    spec = importlib.util.spec_from_file_location("findings", ROOT / "docs" / "findings.py")
    findings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(findings)
    ranked = boards(read_records(findings.RESULTS))
    page = findings.PAGE.read_text(encoding="utf-8")
    assert findings.written(page, ranked) == page, "python docs/findings.py writes it anew"
    drawn = (findings.FIGURES / "kinds.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in findings.by_kind(findings.main_board(ranked)))
    sys.modules.pop("figures", None)
