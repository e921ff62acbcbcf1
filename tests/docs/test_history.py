"""The history of speeds: one line a machine and commit, compared with the release before."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def history() -> dict[str, object]:
    sys.path.append(str(FOLDER))
    try:
        return runpy.run_path(str(FOLDER / "history.py"))
    finally:
        sys.path.remove(str(FOLDER))


def _line(version: str, commit: str, ratio: float, machine: str = "a") -> dict[str, str]:
    works = ("vae step", "iwae step", "likelihood", "population step", "validation", "reading", "take")
    about = {"machine": machine, "commit": commit, "version": version, "date": "2026-12-01", "load": "0.1"}
    return about | dict.fromkeys(works, "2.0") | {"take": str(ratio)}


def test_what_is_slower_than_in_the_release_before_on_the_same_machine_is_named(history) -> None:
    slower = history["slower"]
    lines = [_line("0.1.0", "one", 10.0), _line("0.10.0", "two", 20.0), _line("0.2.0", "other", 1.0, machine="b")]
    assert slower(lines, _line("0.11.0", "new", 20.9)) == [], "5 % slower than 0.10.0, which comes after 0.2.0"
    (sentence,) = slower(lines, _line("0.11.0", "new", 21.2))
    assert sentence.startswith("take takes 1.06 of what it took in 0.10.0 (two)")
    assert slower(lines, _line("0.11.0", "new", 50.0, machine="c")) == [], "a machine without a past"
    assert slower(lines, _line("0.1.0", "new", 50.0)) == [], "the same release"


def test_a_commit_has_one_line_a_machine(history, tmp_path: Path) -> None:
    lines = [_line("0.1.0", "one", 10.0), _line("0.1.0", "one", 11.0, machine="b")]
    lines = history["added"](lines, _line("0.1.0", "one", 12.0))
    history["write"](lines, tmp_path / "history.csv")
    assert history["read"](tmp_path / "history.csv") == lines
    assert [(line["machine"], line["take"]) for line in lines] == [("b", "11.0"), ("a", "12.0")]
    assert history["read"](tmp_path / "none.csv") == []
