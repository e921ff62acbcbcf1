"""The tutorials are programs: as notebooks they run from top to bottom, and print what the notebooks of docs/ hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
notebooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(notebooks)
STEMS = [page.stem for page in notebooks.TUTORIALS]
COMMANDS = ("compare", "first_run", "sweep")  # start the command line
TRAIN = ("first_run", "own_family", "sweep")  # their figures differ from machine to machine


def _page(stem: str) -> Path:
    return ROOT / "docs" / "tutorials" / f"{stem}.md"


def _kept(stem: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "docs" / "notebooks" / f"{stem}.ipynb", 4)


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_has_the_cells_of_its_tutorial_and_small_outputs(stem: str) -> None:
    kept = _kept(stem)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in notebooks.notebook(_page(stem)).cells]
    assert len(nbformat.writes(kept)) < 30_000
    assert "/tmp" not in nbformat.writes(kept)


@pytest.mark.parametrize(
    "stem",
    [pytest.param(stem, marks=[pytest.mark.slow] * (stem in ("first_run", "sweep", "compare"))) for stem in STEMS],
)
def test_a_notebook_runs_from_top_to_bottom(stem: str) -> None:
    """At night those that start the command line, whose every call takes some seconds."""
    book = notebooks.run(notebooks.notebook(_page(stem)))
    if stem not in TRAIN:
        assert [cell.get("outputs") for cell in book.cells] == [cell.get("outputs") for cell in _kept(stem).cells]


def test_a_command_that_fails_fails_its_notebook(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```console\n$ vaebench fit --model nothing\n$ true\n```\n")
    with pytest.raises(CellExecutionError, match="status 2"):
        notebooks.run(notebooks.notebook(page))
