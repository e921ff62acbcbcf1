"""The README and the pages of docs/ say what the code does and what the records hold."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from vaebench.cli import parser
from vaebench.leaderboard import boards, leaderboard, markdown
from vaebench.leaderboard.page import page
from vaebench.leaderboard.table import escaped, table
from vaebench.records import read_records

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))


def test_the_result_tables_are_made_from_the_records() -> None:
    rows = [line for line in leaderboard(ROOT / "results").splitlines() if line.startswith("| ")]
    assert len(rows) >= 3
    for row in rows:
        assert row in PAGES


def test_the_page_has_the_figures_of_the_tables() -> None:
    """One reading of the records makes both; every row of the Markdown is a row of the page, cell by cell."""
    records = read_records(ROOT / "results")
    ranked = boards(records)
    html = page(ranked, records)
    sheets = re.findall(r'<table class="sortable ranking">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    shown = [
        re.findall(r"<t[hd] (.*?)</t[hd]>", row) for sheet in sheets for row in re.findall("<tr.*?</tr>", sheet, re.S)
    ]
    lines = [line for line in markdown(ranked).splitlines() if line.startswith("| ") and "--" not in line]
    rows = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in lines if not line.startswith("| rank")]
    assert len(rows) == len(shown) == sum(len(board.rows) for board in ranked)
    alone = "|".join({column.key for board in ranked for column in table(board).columns if column.page})
    for cells, row in zip(shown, rows, strict=True):
        told = [cell for cell in cells if not re.match(rf'class="\w+ ({alone})\b', cell)]
        texts = [unescape(re.sub(r"<sup>.*?</sup>|<[^>]*>", "", cell.partition(">")[2])) for cell in told]
        assert [escaped(text) for text in texts] == [re.sub(r"( \[\d+\])+$", "", text) for text in row]


def test_every_command_it_names_exists() -> None:
    (commands,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    named = set(re.findall(r"^ {4}vaebench (\w+)", README, re.MULTILINE))
    assert named == set(commands)


def test_every_file_it_names_exists() -> None:
    for path in re.findall(r"\b(?:configs|benchmarks|vaebench|tests)/[\w/]+\.(?:yaml|py|md)", README):
        assert (ROOT / path).is_file(), path
