"""Codes against the prior and against their images: two-sample tests, holes and neighbours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import ot
import pytest
import torch
from helpers import bits, small
from oracles import Data, LinearGaussian, without
from scipy.spatial.distance import cdist
from scipy.stats import norm
from splits import Splits, encoder
from torch import Tensor

import vaebench as vb
from vaebench.core import DataSpec
from vaebench.errors import UserError
from vaebench.evaluation.estimators.two_sample import classifier_test, mmd_test, share_below
from vaebench.evaluation.measurements.neighbours import neighbours
from vaebench.functional.regularisers import directions, mmd, sliced_wasserstein

NONE = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))


def _report(name: str, model: Any, x: Tensor, seed: int = 0, **settings: Any) -> vb.Report:
    data = Data(x, DataSpec(tuple(x.shape[1:]), "continuous"))
    return vb.evaluate(model, data, seed=seed, measurements={**NONE, name: settings})


def _normal(seed: int, m: int = 40, n: int = 3, shift: float = 0.0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


# Two-sample tests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [5, 40])
def test_the_tests_mmd_is_the_regularisers(m: int) -> None:
    a, b = _normal(0, m), _normal(1, m, shift=0.5)
    found = mmd_test(a, b, 3, "rbf", (0.5, 2.0))
    assert found.statistic == pytest.approx(float(mmd(a, b, "rbf", (0.5, 2.0))), abs=1e-14)


def test_p_values_are_uniform_where_the_samples_agree() -> None:
    torch.manual_seed(0)
    p = np.array([mmd_test(_normal(2 * s, 15), _normal(2 * s + 1, 15), 19).p_value for s in range(400)])
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * (level * (1 - level) / 400) ** 0.5)
    p = np.array([classifier_test(_normal(2 * s, 60), _normal(2 * s + 1, 60)).p_value for s in range(200)])
    for level in (0.05, 0.2):
        assert (p <= level).mean() <= level + 4 * (level * (1 - level) / 200) ** 0.5


def test_ties_count_against_a_difference() -> None:
    assert mmd_test(torch.ones(6, 2).double(), torch.ones(6, 2).double(), 20).p_value == 1


def test_mmds_standard_error_is_that_of_repetition() -> None:
    torch.manual_seed(0)
    found = [mmd_test(_normal(2 * s, 30), _normal(2 * s + 1, 30), 50) for s in range(100)]
    spread = np.std([test.statistic for test in found])
    assert np.mean([test.se for test in found]) == pytest.approx(spread, rel=0.25)


def test_samples_that_differ_are_told_apart() -> None:
    a, b = _normal(0, 200), _normal(1, 200, shift=1.0)
    assert mmd_test(a, b, 199).p_value == 1 / 200
    found = classifier_test(a, b)
    bayes = norm.cdf(math.sqrt(3) / 2)
    assert found.statistic == pytest.approx(bayes, abs=4 * found.se)
    assert found.p_value < 1e-6
    assert found.n == 200
    far = classifier_test(a, a + 100)
    assert (far.statistic, far.se) == (1, 0)


def test_sliced_wasserstein_is_pots() -> None:
    a, b = _normal(0, 50, 4), _normal(1, 50, 4, 0.3)
    along = directions(30, a)
    expected = ot.sliced_wasserstein_distance(a.numpy(), b.numpy(), projections=along.numpy().T)
    assert float(sliced_wasserstein(a, b, along).sqrt()) == pytest.approx(float(expected))


def test_the_share_below_a_quantile_is_its_level_where_both_agree() -> None:
    found = [share_below(_normal(2 * s, 300, 1)[:, 0], _normal(2 * s + 1, 300, 1)[:, 0], 0.1) for s in range(300)]
    shares = np.array([share for share, _ in found])
    assert shares.mean() == pytest.approx(0.1, abs=4 * shares.std() / 300**0.5 + 1 / 300)
    assert np.mean([se for _, se in found]) == pytest.approx(shares.std(), rel=0.25)


# Holes ------------------------------------------------------------------------------------------------------------


def test_codes_that_fill_the_prior_have_no_holes() -> None:
    """Images of the linear Gaussian model under its exact posterior: q(z) = p(z)."""
    model = LinearGaussian((1, 3, 3), latent=2, sigma=1.0, orthogonal=True)
    torch.manual_seed(1)
    x = model.likelihood(model.prior().sample((2000,))).sample()
    x = x.clamp(-9, 9)
    found = _report("holes", _shifted(model), (x + 10) / 20, samples=1000, permutations=100).metrics
    for name in ("holes", "strays"):
        assert found[name].value == pytest.approx(0.01, abs=4 * found[name].se)
    assert abs(found["mmd"].value) < 4 * found["mmd"].se
    assert found["mmd_p"].value > 0.001
    assert found["classifier_p"].value > 0.001
    assert found["sliced_wasserstein"].value < 2 * found["sliced_wasserstein_floor"].value


def _shifted(model: LinearGaussian) -> Any:
    """The model for images that were moved into [0, 1]."""
    inner = model.posterior
    model.posterior = lambda x: inner(20 * x - 10)  # type: ignore[method-assign]
    return model


def test_the_hole_between_two_islands_has_its_exact_mass() -> None:
    """Codes at ±2 with σ = 0.1: 99 % of them lie within 2.576 σ, and the prior puts 2 (Φ(2.26) − Φ(1.74)) there."""
    x = (torch.arange(600) % 2).double().reshape(600, 1, 1, 1)
    found = _report("holes", encoder(lambda x: 4 * x - 2, 1), x, samples=600, permutations=50).metrics
    reach = 0.1 * norm.ppf(0.995)
    inside = 2 * (norm.cdf(2 + reach) - norm.cdf(2 - reach))
    assert found["holes"].value == pytest.approx(1 - inside, abs=5 * (inside * (1 - inside) / 600) ** 0.5)
    assert found["strays"].value < 0.05
    assert found["mmd_p"].value == 1 / 51
    assert found["classifier_accuracy"].value > 0.8
    assert found["sliced_wasserstein"].value > 3 * found["sliced_wasserstein_floor"].value


def test_a_code_is_not_judged_by_its_own_image() -> None:
    """Narrow posteriors around means that are samples of the prior: under q(z) each code would lie on its own peak."""
    x = torch.rand(500, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    found = _report("holes", encoder(torch.special.ndtri, 6, 0.05), x, samples=500, permutations=20).metrics["holes"]
    assert found.value == pytest.approx(0.01, abs=4 * found.se)


def test_codes_beyond_the_prior_are_strays() -> None:
    x = torch.rand(500, 1, 1, 1).double()
    found = _report("holes", encoder(lambda x: 3 + x, 1), x, samples=500, permutations=50).metrics
    assert found["strays"].value > 0.95
    assert found["holes"].value > 0.95


def test_order_of_a_sorted_split_does_not_fool_the_classifier() -> None:
    """Halves of a split that is sorted by class differ: learnt from one and judged on the other they tell nothing."""
    x = torch.linspace(0, 1, 400).double().reshape(400, 1, 1, 1)
    model = encoder(lambda x: torch.special.ndtri(x.clamp(0.002, 0.998)), 1, 0.02)
    found = _report("holes", model, x, samples=400, permutations=50).metrics
    assert found["classifier_accuracy"].value == pytest.approx(0.5, abs=4 * found["classifier_accuracy"].se)


def test_what_cannot_be_scored_says_why() -> None:
    x = torch.rand(60, 1, 2, 2).double()
    found = _report("holes", encoder(lambda x: x, 4, scale=0), x).metrics
    assert "deterministic" in found["holes"].unavailable
    assert found["strays"].value is not None
    assert found["mmd"].value > 0
    found = _report("holes", without(encoder(lambda x: x, 4), prior="log_prob"), x).metrics
    assert "the prior has no density" in found["strays"].unavailable
    assert found["holes"].value is not None
    found = _report("holes", encoder(lambda x: x, 4), x[:3]).metrics
    assert {metric.unavailable for metric in found.values()} == {"3 images are too few: 4 are needed"}
    with pytest.raises(UserError, match="samples is 3"):
        _report("holes", encoder(lambda x: x, 4), x, samples=3)


# Neighbours -------------------------------------------------------------------------------------------------------


def test_neighbours_are_the_nearest_other_images() -> None:
    x = torch.rand(80, 1, 3, 3)
    distances = cdist(x.flatten(1), x.flatten(1)) + np.diag(np.full(80, np.inf))
    assert neighbours(x).tolist() == distances.argmin(1).tolist()
    assert neighbours(torch.zeros(2, 1, 1, 1)).tolist() == [1, 0], "equal images are not themselves"


def test_distances_of_a_hand_made_code() -> None:
    """Images 0, 0.1, 0.8, 1 pair up as (0, 1), (2, 3); the code is (x, 2 x)."""
    x = torch.tensor([0.0, 0.1, 0.8, 1.0]).double().reshape(4, 1, 1, 1)
    found = _report("neighbours", encoder(lambda x: torch.cat([x, 2 * x], 1), 2), x).metrics
    assert found["neighbour_distance_l1"].value == pytest.approx(3 * 0.15)
    assert found["neighbour_distance_l2"].value == pytest.approx(5**0.5 * 0.15)
    for p in (1, 2):
        far, ratio = found[f"random_distance_l{p}"].value, found[f"neighbour_ratio_l{p}"].value
        assert ratio == pytest.approx(found[f"neighbour_distance_l{p}"].value / far)
        assert f"L{p} distance" in found[f"random_distance_l{p}"].definition


def test_codes_of_no_meaning_have_a_ratio_of_one_and_scale_does_not_matter() -> None:
    x = torch.rand(600, 1, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    noise = encoder(lambda x: torch.sin(1e6 * x), 2)
    found = _report("neighbours", noise, x).metrics["neighbour_ratio_l2"]
    assert found.value == pytest.approx(1, abs=4 * found.se)
    near = _report("neighbours", encoder(lambda x: x, 2), x).metrics
    assert near["neighbour_ratio_l2"].value < 0.1
    scaled = _report("neighbours", encoder(lambda x: 7 * x, 2), x).metrics
    for p in (1, 2):
        assert scaled[f"neighbour_ratio_l{p}"].value == pytest.approx(near[f"neighbour_ratio_l{p}"].value)
        assert scaled[f"neighbour_distance_l{p}"].value == pytest.approx(7 * near[f"neighbour_distance_l{p}"].value)


def test_the_ratios_standard_error_is_that_of_repetition() -> None:
    found = []
    for s in range(60):
        x = torch.rand(100, 1, 1, 2, generator=torch.Generator().manual_seed(s)).double()
        found.append(_report("neighbours", encoder(lambda x: torch.sin(1e6 * x), 2), x).metrics["neighbour_ratio_l2"])
    assert np.mean([f.se for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.35)


def test_without_distances_there_is_a_reason() -> None:
    x = torch.rand(10, 1, 2, 2).double()
    found = _report("neighbours", encoder(lambda x: 0 * x, 4), x).metrics
    assert found["neighbour_ratio_l1"].unavailable == "all codes are the same"
    assert found["neighbour_distance_l1"].value == 0
    found = _report("neighbours", without(encoder(lambda x: x, 4), posterior="mean"), x).metrics
    assert all("no mean" in metric.unavailable for metric in found.values())
    found = _report("neighbours", encoder(lambda x: x, 4), x[:1]).metrics
    assert all("no neighbour" in metric.unavailable for metric in found.values())


# All of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "density"), [("vae", True), ("wae_mmd", False)])
def test_families_have_every_figure_or_its_reason_and_a_second_look_is_the_same(
    name: str, density: bool, tmp_path: Path
) -> None:
    x = {"train": bits(300, seed=2).float(), "test": bits(150, seed=3).float()}
    index = {split: torch.arange(len(images)) for split, images in x.items()}
    factors = {split: torch.stack([i % 2, i // 2 % 3, i // 6 % 5], 1) for split, i in index.items()}
    data = Splits(x, y={split: i % 3 for split, i in index.items()}, v=factors, measure="binary")
    plan = {**NONE, "aggregate": {}, "holes": {"permutations": 20}, "neighbours": {}, "probes": {},
            "disentanglement": {"learnt": 100, "drawn": 100}}  # fmt: skip
    model = small(name).float()
    found, again = (vb.evaluate(model, data, measurements=plan, work=work) for work in (tmp_path, None))
    assert (found.metrics, found.units) == (again.metrics, again.units)
    assert vb.evaluate(model, data, measurements=plan, work=tmp_path).metrics == found.metrics
    missing = {key for key, metric in found.metrics.items() if metric.unavailable}
    need = {"information", "information_upper", "aggregate_kl", "total_correlation", "dimension_kl", "holes"}
    assert missing == {"local_mig"} | (set() if density else need)
    assert len(found.metrics) == 5 + 8 + 6 + 3 + 12
