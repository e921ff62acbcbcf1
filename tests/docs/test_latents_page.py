"""docs/latents.md: its block runs and holds, its figure and table come from it, and the parts that it names exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from helpers import POSTERIORS, PRIORS

from vaebench.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "latents.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(figures: ModuleType) -> dict[str, Any]:
    with torch.random.fork_rng():
        return figures.run_page(figures.LATENTS)


def test_the_table_is_that_of_the_block(page: dict[str, Any]) -> None:
    rows = dict(re.findall(r"^\| ([^|]+?) +\| ([\d.]+) \|$", PAGE, re.MULTILINE))
    assert list(rows) == list(page["gaps"])
    for name, gap in page["gaps"].items():
        assert float(rows[name]) == pytest.approx(gap, abs=0.15), name  # other processors round otherwise


def test_its_figure_is_drawn_from_the_block(figures: ModuleType, page: dict[str, Any]) -> None:
    drawn = figures.svg(figures.bimodal, page)
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert drawn == figures.svg(figures.bimodal, page)
    committed = (ROOT / "docs" / "figures" / "bimodal.svg").read_text(encoding="utf-8")
    assert all(f">{name}: " in committed for name in page["gaps"])


def test_it_names_every_part() -> None:
    tables = PAGE.partition("## Priors")
    for text, parts in ((tables[0], POSTERIORS), (tables[2], PRIORS)):
        assert not [name for name in parts if f"`{name}`" not in text and not name.startswith("codes.")]


def test_its_configuration_trains(newcomer: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (newcomer / "latents.yaml").write_text(text, encoding="utf-8")
    assert main(["fit", "--config=latents.yaml", "--data=digits", "--trainer.max_steps=2"]) == 0
