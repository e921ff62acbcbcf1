"""docs/peers.md: the models that pythae and vaebench trained alike."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from vaebench.running.benchmark import read_benchmark
from vaebench.training.experiment import experiment

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("peers", ROOT / "docs" / "peers.py")
peers = importlib.util.module_from_spec(SPEC)
sys.modules["peers"] = peers
SPEC.loader.exec_module(peers)


def test_the_table_is_that_of_the_records() -> None:
    page = peers.PAGE.read_text(encoding="utf-8")
    assert peers.written(page) == page, "python docs/peers.py writes it anew"


def test_the_same_weights_have_the_same_likelihood_by_both_estimators() -> None:
    """They draw other samples from the same encoders: within 5 standard errors over five trainings."""
    for line in list(peers.lines())[2:]:
        assert line.split("|")[-3].strip() == "a tie", "as the page says"
        mean, error = map(float, line.replace("−", "-").split("|")[-2].split("±"))
        assert abs(mean) < 0.02
        assert abs(mean) < 5 * error


def test_both_sides_have_five_trainings_of_what_the_page_says() -> None:
    runs = read_benchmark(ROOT / "configs" / "benchmark" / "peers.yaml").runs
    assert {run.variant.removeprefix("vaebench_") for run in runs} == set(peers.MODELS)
    for run in runs:
        made = experiment(run.args).config
        assert made.model.init_args.latent == 8
        assert (made.trainer.max_epochs, made.data.init_args.batch_size) == (100, 128)
