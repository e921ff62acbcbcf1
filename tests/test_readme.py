"""The README and the pages of docs/ say what the code does and what the records hold."""

from __future__ import annotations

import re
from pathlib import Path

from vaebench.cli import parser
from vaebench.leaderboard import leaderboard

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))


def test_the_result_tables_are_made_from_the_records() -> None:
    rows = [line for line in leaderboard(ROOT / "results").splitlines() if line.startswith("| ")]
    assert len(rows) >= 3
    for row in rows:
        assert row in PAGES


def test_every_command_it_names_exists() -> None:
    (commands,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    named = set(re.findall(r"^ {4}vaebench (\w+)", README, re.MULTILINE))
    assert named == set(commands)


def test_every_file_it_names_exists() -> None:
    for path in re.findall(r"\b(?:configs|benchmarks|vaebench|tests)/[\w/]+\.(?:yaml|py|md)", README):
        assert (ROOT / path).is_file(), path
