"""The README and the pages of docs/ say what the code does and what the records hold."""

from __future__ import annotations

import contextlib
import io
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from committed import committed
from fake_records import write_board

import vaebench
from vaebench.cli import parser
from vaebench.display.tables import escaped
from vaebench.leaderboard import boards, leaderboard, markdown
from vaebench.leaderboard.page import page
from vaebench.leaderboard.table import table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
PAGES = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))


def test_the_result_tables_are_made_from_the_records() -> None:
    rows = [line for line in leaderboard(ROOT / "results").splitlines() if line.startswith("| ")]
    assert len(rows) >= 3
    for row in rows:
        assert row in PAGES


def test_the_page_has_the_figures_of_the_tables() -> None:
    """One reading of the records makes both; every row of the Markdown is a row of the page, cell by cell."""
    records = committed()
    ranked = boards(records)
    html = page(ranked, records)
    sheets = re.findall(r'<table class="sortable ranking">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    shown = [
        re.findall(r"<t[hd] (.*?)</t[hd]>", row) for sheet in sheets for row in re.findall("<tr.*?</tr>", sheet, re.S)
    ]
    lines = [line for line in markdown(ranked).splitlines() if line.startswith("| ") and "--" not in line]
    rows = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in lines if not line.startswith("| rank")]
    assert len(rows) == len(shown) == sum(len(board.rows) for board in ranked)
    alone = ["|".join(c.key for c in table(board).columns if c.page) for board in ranked for _ in board.rows]
    for cells, row, hidden in zip(shown, rows, alone, strict=True):
        told = [cell for cell in cells if not re.match(rf'class="\w+ ({hidden})\b', cell)]
        texts = [unescape(re.sub(r"<sup>.*?</sup>|<[^>]*>", "", cell.partition(">")[2])) for cell in told]
        assert [escaped(text) for text in texts] == [re.sub(r"( \[\d+\])+$", "", text) for text in row]


def test_it_answers_which_of_two_models_is_better_in_six_lines() -> None:
    (code,), (shown,) = (re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) for kind in ("python", "text"))
    assert len(code.strip().splitlines()) <= 6
    out = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == shown


@pytest.mark.slow
def test_the_python_beside_the_commands_runs(newcomer: Path) -> None:
    """In a folder that holds records of the two models that it compares."""
    write_board(newcomer / "results", {"iwae": 1.0, "vae": 0.0})
    (code,) = re.findall(r"```python\n(.*?)```", COMMANDS, re.DOTALL)
    program: dict[str, Any] = {}
    exec(compile(code, "docs/commands.md", "exec"), program)
    assert program["nll"].shape == (20,)
    assert len(program["records"]) == 7


def test_every_command_is_listed_and_every_listed_one_exists() -> None:
    (commands,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    assert set(re.findall(r"^ {4}vaebench (\w+)", COMMANDS, re.MULTILINE)) == set(commands)
    assert set(re.findall(r"`vaebench (\w+)", README)) <= set(commands)


def test_it_does_not_boast_of_families_that_do_not_exist() -> None:
    (count,) = re.findall(r"\| models \| over (\d+) families", README)
    assert int(count) < len(vaebench.families())


def test_it_is_cited_by_its_version_and_licence() -> None:
    """CITATION.cff has the keys that the form 1.2.0 requires, and some of those that it knows."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert set(cited) <= {
        "cff-version",
        "message",
        "title",
        "authors",
        "type",
        "abstract",
        "version",
        "license",
        "keywords",
    }
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", "Apache-2.0")
    assert all(set(author) == {"name"} for author in cited["authors"])
    assert cited["version"] == vaebench.__version__
    assert f"Version {vaebench.__version__}" in README


def test_it_is_short_and_names_every_page() -> None:
    assert len(README.splitlines()) < 150
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"\((docs/[\w/-]+\.md)\)", README))


def test_every_file_it_names_exists() -> None:
    for path in re.findall(r"\b(?:configs|benchmarks|vaebench|tests)/[\w/]+\.(?:yaml|py|md)", PAGES):
        assert (ROOT / path).is_file(), path


def test_every_link_of_the_pages_leads_to_a_file() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        prose = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
