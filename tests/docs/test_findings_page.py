"""docs/findings.md says what the records say."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaebench.leaderboard import boards
from vaebench.records import read_records

ROOT = Path(__file__).parents[2]


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script that writes the page, as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))  # where it finds the style of all figures
    spec = importlib.util.spec_from_file_location("findings", ROOT / "docs" / "findings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("figures", None)


def test_the_page_and_its_pictures_are_of_the_records(findings: Any) -> None:
    ranked = boards(read_records(findings.RESULTS))
    page = findings.PAGE.read_text(encoding="utf-8")
    assert findings.written(page, ranked) == page, "python docs/findings.py writes it anew"
    drawn = (findings.FIGURES / "kinds.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in drawn for name in findings.by_kind(findings.main_board(ranked)))


def test_the_interval_of_a_methods_share_holds_it_as_often_as_it_says(findings: Any) -> None:
    """1,000 made-up boards of three methods and ten seeds, with shares from nothing to two fifths."""
    draw = np.random.default_rng(0)
    for effect in (0.0, 0.5, 1.0):
        means = np.array([0.0, effect, 2 * effect])
        true = means.var() / (means.var() + 1)
        found = [findings.share_of_groups([list(draw.normal(m, 1, 10)) for m in means]) for _ in range(1000)]
        held = np.mean([low <= true <= high for _, low, high in found])
        assert 0.93 < held < 0.99, (effect, held)  # at no share the lower bound is 0, and errs on one side only
        assert abs(np.mean([share for share, _, _ in found]) - true) < 0.03
