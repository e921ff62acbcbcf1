"""Hierarchies level by level, against linear algebra; models of one level are read as before."""

from __future__ import annotations

import pytest
import torch
from helpers import SPEC, bits, small
from oracles import Channels, Data, LinearChain
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import vaebench as vb
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.collapse import shuffle_drops
from vaebench.evaluation.estimators.levels import count_by_level, read_levels, sizes

PLAN = {"likelihood": {"k": 10}, "units": {}, "collapse": {}, "reconstruction": None, "samples": None}
CPU = torch.device("cpu")


def _posterior_mean(model: LinearChain, x: Tensor) -> Tensor:
    return model._given(list(range(9, 14)), list(range(9)), x.flatten(1)).mean


def test_rates_of_levels_are_the_divergences_of_the_exact_posterior() -> None:
    model = LinearChain()
    x = model.images(300)
    with evaluation_mode(model, CPU):
        levels = read_levels(model, x)
    upper = model._given([12, 13], list(range(9)), x.flatten(1))
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    exact = kl_divergence(upper, prior)
    error = float((levels.rates[:, 1] - exact).std()) / 300**0.5
    assert float(levels.rates[:, 1].mean()) == pytest.approx(float(exact.mean()), abs=4 * error)
    assert error < 0.1 * float(exact.mean())
    assert levels.rates.shape == (300, 2)


def test_the_variance_of_the_means_is_that_of_the_exact_posteriors_means() -> None:
    """The sampling noise of a mean, of variance Var_q/S, must not count as activity."""
    model = LinearChain(idle=True)
    x = model.images(1000)
    with evaluation_mode(model, CPU):
        levels = read_levels(model, x)
    exact = _posterior_mean(model, x).var(0)
    assert torch.allclose(levels.variances, exact, atol=0.02, rtol=0.03)
    assert float(exact[3]) < 1e-20, "the idle unit"
    assert float(levels.variances[3].abs()) < 0.01 < float(levels.means[0][:, 3].var()), "one mean alone would mislead"


def test_an_upper_unit_is_idle_where_the_levels_below_do_not_read_it() -> None:
    """p(x|z) sees the lowest level alone, so that shuffling an upper unit leaves it as it is."""
    for idle in (False, True):
        model = LinearChain(idle=idle)
        with evaluation_mode(model, CPU):
            drops = shuffle_drops(model, model.images(400))
        assert (abs(float(drops.units[3])) < 1e-12) is idle
        assert float(drops.units[4]) > 0.05
        assert float(drops.units[:3].min()) > 0.05


def test_an_evaluation_reports_every_level() -> None:
    model, x = small("ladder_vae", latent=5).float(), bits(30).float()
    report = vb.evaluate(model, Data(x, SPEC), measurements=PLAN)
    rates = [report.metrics[f"rate_level_{i}"].value for i in (1, 2)]
    assert [row["units"] for row in report.tables["levels"]] == [4, 1]
    assert [row["rate"] for row in report.tables["levels"]] == rates
    rate = report.metrics["rate"]
    assert sum(rates) == pytest.approx(rate.value, abs=4 * rate.se)
    for i, row in enumerate(report.tables["levels"], 1):
        assert row["active_units"] == report.metrics[f"active_units_level_{i}"].value
    assert [level["units"] for level in report.collapse["levels"]] == [4, 1]
    assert sum(level["collapsed"] for level in report.collapse["levels"]) == len(report.collapse["units"])
    assert "level 2" in report.collapse["sentence"]


def test_a_model_of_one_level_is_reported_as_before() -> None:
    model = Channels([1, 1], [1, 1])
    report = vb.evaluate(model, Data(model.images(20), vb.measures.DataSpec(model.shape)), measurements=PLAN)
    assert not [name for name in report.metrics if "level" in name]
    assert "levels" not in report.tables
    assert "levels" not in report.collapse
    assert "level" not in report.collapse["sentence"]


def test_levels_are_read_where_both_sides_have_the_same() -> None:
    posterior = {"class_path": "vaebench.posteriors.hierarchy.BottomUp"}
    assert sizes(small("vae", posterior=posterior), bits(2)) is None
    assert sizes(small("two_layer_vae"), bits(2)) == (1, 1)
    assert count_by_level((3, 2), [0, 2, 4]) == [2, 1]
