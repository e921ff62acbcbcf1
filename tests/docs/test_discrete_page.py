"""docs/discrete.md: its block runs and holds, and it names every figure of the measurement."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from vaebench.evaluation.measurements.codes import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "discrete.md").read_text(encoding="utf-8")


def test_the_pages_block_runs_and_its_assertions_hold() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    with torch.random.fork_rng():
        exec(compile(block, "docs/discrete.md", "exec"), {})


def test_the_page_defines_every_figure_of_codes() -> None:
    table = PAGE[PAGE.index("| figure |") :]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(KINDS)
