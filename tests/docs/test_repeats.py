"""The configurations that repeat what others published start, and name claims that stand in published.csv."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaebench.errors import UserError
from vaebench.leaderboard.published import figures
from vaebench.running.benchmark import read_benchmark
from vaebench.training.experiment import experiment

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "repeat").glob("*.yaml"))
FIGURES = {figure.id: figure for figure in figures()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_repeat_is_of_the_data_and_the_measure_that_it_claims(path: Path) -> None:
    for run in read_benchmark(path).runs:
        config = experiment(run.args).config
        data, measure = config.data.class_path.rpartition(".")[0].rpartition(".")[2], config.data.init_args.measure
        for claim in run.claims:
            figure = FIGURES[claim]
            assert (figure.data, figure.surrogate) == ((data, measure), config.model.init_args.surrogate)


def test_a_benchmark_says_what_a_claim_must_be(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text("runs: {vae: {claims: 88.7}}")
    with pytest.raises(UserError, match=r"has claims 88\.7: expected a list of ids of published\.csv"):
        read_benchmark(tmp_path / "bench.yaml")
