"""What repeats others' figures: its configurations, its verdicts, and the pages that show them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from vaebench.errors import UserError
from vaebench.leaderboard.published import published_figures
from vaebench.leaderboard.verdicts import repeated, same_weights
from vaebench.records import RunRecord
from vaebench.running.benchmark import read_benchmark
from vaebench.training.experiment import experiment

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("repeats", ROOT / "docs" / "repeats.py")
repeats = importlib.util.module_from_spec(SPEC)
sys.modules["repeats"] = repeats  # where dataclasses look for its names
SPEC.loader.exec_module(repeats)
FILES = sorted((ROOT / "configs" / "repeat").glob("*.yaml"))
FIGURES = {figure.id: figure for figure in published_figures()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_repeat_is_of_the_data_and_the_measure_that_it_claims(path: Path) -> None:
    for run in {run.variant: run for run in read_benchmark(path).runs}.values():
        config = experiment(run.args).config
        data, measure = config.data.class_path.rpartition(".")[0].rpartition(".")[2], config.data.init_args.measure
        for claim in run.claims:
            figure = FIGURES[claim]
            assert (figure.data, figure.surrogate) == ((data, measure), config.model.init_args.surrogate)


def test_a_benchmark_says_what_a_claim_must_be(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text("runs: {vae: {claims: 88.7}}")
    with pytest.raises(UserError, match=r"has claims 88\.7: expected a list of ids of published\.csv"):
        read_benchmark(tmp_path / "bench.yaml")


def test_the_pages_tables_are_those_of_the_records() -> None:
    for path in repeats.PAGES:
        page = path.read_text(encoding="utf-8")
        assert repeats.MARKED.search(page)
        assert repeats.written(page) == page, "python docs/repeats.py writes them anew"


def test_the_page_says_what_drawn_bits_count() -> None:
    assert f"drawn anew, {repeats.BITS_OF_MNIST} nats for those" in " ".join(
        repeats.PAGES[0].read_text("utf-8").split()
    )


def test_every_configuration_has_rows() -> None:
    """In the order of the page; and a row that was not run says how to run it."""
    assert set(repeats.MINUTES) == {path.stem for path in FILES}
    claims = [claim for path in FILES for run in read_benchmark(path).runs if run.seed == 0 for claim in run.claims]
    rows = list(repeats.lines())
    assert len(rows) == len(claims) + 1
    for row in rows:
        assert row.done or "vaebench bench configs/repeat/" in row.cells[-1]


# Verdicts on repeats ----------------------------------------------------------------------------------------------


def measured(log_likelihood: float, elbo: float = -100.0) -> RunRecord:
    """A record of MNIST's shape with two figures."""
    record = object.__new__(RunRecord)
    metrics = {name: {"value": value, "se": 0.25} for name, value in
               (("log_likelihood", log_likelihood), ("elbo", elbo))}  # fmt: skip
    object.__setattr__(record, "metrics", metrics)
    object.__setattr__(record, "data", {"shape": [1, 28, 28]})
    return record


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        ("burda_vae_k1", [-88.7], "not decidable"),  # one training on either side
        ("burda_vae_k1", [-88.7, -88.6, -88.8], "equal"),
        ("burda_vae_k1", [-86.0, -86.1, -86.2], "better"),
        ("burda_vae_k1", [-91.0, -91.1, -91.2], "worse"),
        ("burda_vae_k1", [-88.0, -89.4, -90.8], "not decidable"),  # the noise is as large as what is to be seen
        ("norouzi_vae_mnist", [-84.5], "equal"),  # the paper's spread stands for both sides
    ],
)
def test_a_repeat_is_judged_by_the_noise_of_trainings(claim: str, values: list[float], verdict: str) -> None:
    assert repeated(FIGURES[claim], [measured(value) for value in values]).verdict == verdict


def test_the_interval_is_welch_s_with_what_rounding_cuts_off() -> None:
    """Against scipy's t distribution: three trainings against one of unknown spread, which is taken for theirs."""
    values = np.array([-88.4, -88.9, -88.3])
    found = repeated(FIGURES["burda_vae_k1"], [measured(value) for value in values])
    assert found.difference == pytest.approx(values.mean() + 88.71)
    seeds, cut = values.var(ddof=1) * (1 + 1 / 3), 0.01**2 / 12
    error, share = np.sqrt(seeds + cut), seeds / (seeds + cut)
    half = (found.interval[1] - found.interval[0]) / 2
    outside = share * scipy.stats.t.sf(half / error, 2) + (1 - share) * scipy.stats.norm.sf(half / error)
    assert 2 * outside == pytest.approx(0.05, abs=1e-6)


def test_a_published_figure_of_one_sample_is_a_bound() -> None:
    """0.19 bits a pixel of Townsend et al. is the ELBO, whatever K the record has."""
    found = repeated(FIGURES["townsend_bound"], [measured(-90.0, elbo=-103.0 - i / 10) for i in range(3)])
    assert found.value == pytest.approx(103.1 / 784 / np.log(2))
    assert found.over_images == pytest.approx(0.25 / 784 / np.log(2))
    assert found.verdict == "equal"


def test_published_weights_are_judged_by_an_interval() -> None:
    """Defect: "equal" was said where both figures, rounded, were the same text."""
    figure = FIGURES["townsend_bound"]
    assert figure.written == "0.19"
    assert [same_weights(figure, value, 0.0005) for value in (0.1941, 0.1951, 0.199, 0.18)] == [
        "equal", "not decidable", "worse", "better",
    ]  # fmt: skip
    assert same_weights(figure, 0.1941, 0.01) == "not decidable"
