"""docs/objectives.md: its blocks run and hold, its figures come from them, and its claims are those of the records."""

from __future__ import annotations

import importlib.util
import re
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from committed import committed
from helpers import small
from scipy.stats import ttest_ind

from vaebench.core import DataSpec
from vaebench.leaderboard.display import number
from vaebench.records import RunRecord

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
GREY = DataSpec((1, 4, 4), "continuous", torch.full((1, 4, 4), 0.5), size=1000)


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(figures: ModuleType) -> dict[str, Any]:
    with torch.random.fork_rng():
        return figures.run_page()  # every block asserts what its section claims


def _gradient(family: str, variance: float, x: torch.Tensor, **settings: float) -> torch.Tensor:
    likelihood = {
        "class_path": "vaebench.likelihoods.Gaussian",
        "init_args": {"scale": "fixed", "initial": variance**0.5, "floor": 0.0},
    }
    model = small(family, GREY, likelihood=likelihood, **settings)
    torch.manual_seed(3)
    loss = model.step(x, None, torch.tensor(0.0)).losses["model"]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("variance", [1.0, 0.3])
@pytest.mark.parametrize("beta", [0.02, 1.0, 4.0])
def test_weighing_the_rate_is_widening_a_gaussian_decoder(beta: float, variance: float) -> None:
    """∇ loss at (σ², β) = β ∇ loss at (βσ², 1), for every parameter, under the same noise."""
    x = torch.rand(8, *GREY.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weighted = _gradient("beta_vae", variance, x, beta=beta)
    assert torch.allclose(weighted, beta * _gradient("vae", beta * variance, x), rtol=1e-5, atol=1e-9)
    if beta != 1:
        assert not torch.allclose(weighted, _gradient("vae", variance, x), rtol=0.1), "the test can tell"


def test_a_beta_vae_and_a_noisy_vae_train_to_the_same_place(page: dict[str, Any]) -> None:
    weighted, noisy = (torch.tensor(points) for points in page["curve"].values())
    assert torch.allclose(weighted, noisy, atol=0.05)
    rate, squares = noisy.T
    assert (rate.diff() < 0).all(), "a larger β buys less rate"
    assert (squares.diff() > 0).all(), "and more error"


def test_the_moments_objective_is_no_bound_and_the_kls_is(page: dict[str, Any]) -> None:
    claim, bound, log_likelihood = page["judged"]["KL"]
    assert claim == pytest.approx(bound, abs=0.5)  # one sample against 500
    assert bound < log_likelihood
    claim, bound, log_likelihood = page["judged"]["moments"]
    assert claim > log_likelihood > bound


def test_every_figure_is_drawn_from_the_blocks(figures: ModuleType, page: dict[str, Any]) -> None:
    for name, draw in figures.PAGES.items():
        drawn = figures.svg(draw, page)
        assert ElementTree.fromstring(drawn).tag.endswith("svg")
        assert drawn == figures.svg(draw, page), f"{name} is the same every time"


def test_every_figure_it_shows_exists_and_no_other() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    shown = set(re.findall(r"!\[[^]]+\]\((?:docs/)?(figures/\w+\.svg)\)", pages))
    assert shown == {f"figures/{path.name}" for path in (ROOT / "docs" / "figures").iterdir()}


def test_the_picture_of_the_readme_has_the_board_of_the_records(figures: ModuleType) -> None:
    drawn = (ROOT / "docs" / "figures" / "board.svg").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d–]+)(?: \[1\])? \| (\w[\w.]*) \|", _board("digits"), re.MULTILINE)
    assert len(rows) >= 13
    assert all(f">{variant} · {rank}<" in drawn for rank, variant in rows)
    assert _board("digits").count("| full |") == 4, "the README's caption says four"
    again = figures.svg(figures.board, committed("collapse")).decode()
    assert all(f">{variant} · " in again for _, variant in rows if not variant.startswith("beta_"))


def _board(name: str) -> str:
    """The section of a data set in docs/results.md, which another test holds to the records."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    return text.split(f"### {name} · ")[1].split("### ")[0]


def test_collapse_is_made_and_mended_in_the_records(figures: ModuleType) -> None:
    records = committed("collapse")
    assert not records.damaged
    verdicts: dict[str, list[str]] = {}
    for record in records:
        verdicts.setdefault(record.variant, []).append(record.collapse["verdict"])
    made = {name for name, found in verdicts.items() if set(found) == {"full"}}
    mended = {name for name, found in verdicts.items() if "full" not in found}
    assert made == {"vae", "warm_up", "aggressive"}
    assert mended == {"bias_at_mean", "free_bits", "soft_free_bits", "capacity"}
    assert sorted(verdicts["wait_then_warm_up"]) == ["full", "full", "partial"]
    assert len(records) == 24
    picture = (ROOT / "docs" / "figures" / "collapse.svg").read_text(encoding="utf-8")
    assert all(f">{name}<" in picture for name in verdicts)
    drawn = figures.svg(figures.collapse, records).decode()
    assert drawn.count("<use ") == picture.count("<use "), "one mark a run and panel, and the axes'"


def test_the_table_of_independence_is_that_of_the_records() -> None:
    found: dict[str, dict[int, RunRecord]] = {}
    for record in committed("shapes"):
        found.setdefault(record.variant, {})[record.seed] = record
    assert set(found) == {"vae", "factor_vae", "beta_tc_vae"}
    scores = {name: [runs[seed].value("mig") for seed in range(30, 50)] for name, runs in found.items()}
    for name, runs in found.items():
        mean, error = statistics.mean(scores[name]), statistics.stdev(scores[name]) / len(runs) ** 0.5
        others = [statistics.mean(run.value(metric) for run in runs.values()) for metric in ("rate", "elbo")]
        assert f"| {name} | {mean:.3f} | {error:.3f} | {number(others[0], 2)} | {number(others[1], 2)} |" in PAGE
    for name in ("factor_vae", "beta_tc_vae"):
        assert statistics.mean(scores[name]) > statistics.mean(scores["vae"])
        chance = ttest_ind(scores[name], scores["vae"], equal_var=False, alternative="greater").pvalue
        more = sum(a > b for a, b in zip(scores[name], scores["vae"], strict=True))
        assert f"`{name}` in {more} of the 20 (p = {chance:.3f})" in " ".join(PAGE.split())


def test_a_mean_over_pixels_leaves_no_direction_that_pays(figures: ModuleType) -> None:
    """docs/kl_weight.md: its blocks run, assertions and all, and the figure is theirs."""
    page = figures.run_page(figures.WEIGHT)
    assert page["paying"] == {
        "squared errors, mean over pixels": 0, "squared errors, summed": 3, "σ² learned, mean over pixels": 0,
        "σ² learned, summed": 26,
    }  # fmt: skip
    shown = (ROOT / "docs" / "figures" / "spectrum.svg").read_text(encoding="utf-8")
    assert all(f">{name}: {count} pay<" in shown for name, count in page["paying"].items())
