"""Disentanglement scores: by hand, against scikit-learn and the papers' sums, on perfect codes and on random ones."""

from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from oracles import without
from sklearn.metrics import mutual_info_score
from splits import Splits, encoder

import vaebench as vb
from vaebench.errors import UserError
from vaebench.evaluation.estimators import disentanglement as scores
from vaebench.evaluation.estimators.disentanglement import entropies, grouped_jackknife, local_mig, mutual_information
from vaebench.evaluation.estimators.fixed_factor import (
    beta_vae_features,
    beta_vae_score,
    draw_factors,
    factor_vae_score,
    factor_vae_votes,
)

VALUES = (2, 4, 7)
NONE = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))
GRID = np.array(list(product(*map(range, VALUES))) * 10)  # every combination ten times
TABLE = np.array([[0.5, 0.1], [0.2, 0.3], [0.0, 0.0]])  # informations of three units on two factors


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _noise(n: int, units: int = 4, seed: int = 0) -> Any:
    return _rng(seed).normal(size=(n, units))


def _perfect(factors: Any, idle: int = 0) -> Any:
    """Each unit a multiple of one factor; idle units constant."""
    return np.concatenate([factors * [3.0, -1.0, 0.5], np.ones((len(factors), idle))], 1)


def _explicitness(train: Any, train_factors: Any, test: Any, test_factors: Any) -> float:
    return scores.explicitness(scores.chances(train, train_factors, test), train_factors, test_factors)


# By hand ----------------------------------------------------------------------------------------------------------


def test_information_is_that_of_scikit_learn_with_numpys_bins() -> None:
    """disentanglement_lib's binning, np.digitize over np.histogram's edges but the last, and its mutual information."""
    factors, codes = GRID, _noise(len(GRID)) + 0.5 * GRID[:, [1, 2, 0, 0]]
    found = mutual_information(codes, factors, 20)
    for j, k in np.ndindex(4, 3):
        binned = np.digitize(codes[:, j], np.histogram(codes[:, j], 20)[1][:-1])
        assert found[j, k] == pytest.approx(mutual_info_score(factors[:, k], binned))
    assert np.allclose(mutual_information(_perfect(GRID, idle=1), GRID)[-1], 0, atol=1e-12)


def test_information_and_entropy_of_a_table_of_counts() -> None:
    codes, factors = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([[0, 5], [0, 7], [1, 5], [1, 5]])
    assert entropies(factors) == pytest.approx([math.log(2), -0.75 * math.log(0.75) - 0.25 * math.log(0.25)])
    second = 0.25 * math.log(0.25 / (0.5 * 0.75)) + 0.25 * math.log(0.25 / (0.5 * 0.25)) + 0.5 * math.log(1 / 0.75)
    assert mutual_information(codes, factors)[0] == pytest.approx([math.log(2), second])


def test_scores_of_a_table() -> None:
    assert scores.mig(TABLE, np.array([1.0, 0.5])) == pytest.approx((0.3 / 1 + 0.2 / 0.5) / 2)
    assert scores.mig(TABLE, np.array([1.0, 0.0])) == pytest.approx(0.3), "a factor that does not vary is left out"
    assert scores.modularity(TABLE) == pytest.approx(((1 - 0.01 / 0.25) + (1 - 0.04 / 0.09) + 0) / 3)
    assert scores.sap(TABLE) == pytest.approx((0.3 + 0.2) / 2)


def test_dci_of_importances() -> None:
    relied = np.array([[0.9, 0.1], [0.1, 0.4], [0.0, 0.5], [0.0, 0.0]])

    def spread(parts: Any, base: int) -> float:
        p = np.array(parts) / np.sum(parts)
        return 1 + sum(x * math.log(x, base) for x in p if x > 0)

    units = 1.0 * spread([0.9, 0.1], 2) + 0.5 * spread([0.1, 0.4], 2) + 0.5 * 1
    assert scores.dci_disentanglement(relied) == pytest.approx(units / 2)
    factors = spread([0.9, 0.1], 4) + spread([0.1, 0.4, 0.5], 4)
    assert scores.dci_completeness(relied) == pytest.approx(factors / 2)
    assert scores.dci_disentanglement(np.eye(3)) == scores.dci_completeness(np.eye(3)) == pytest.approx(1)
    assert scores.dci_disentanglement(np.ones((4, 3))) == pytest.approx(0)
    assert scores.dci_disentanglement(np.zeros((4, 3))) == 0


def test_irs_by_hand() -> None:
    """One unit: within factor 0's values it moves by 1 about its mean, and by 3 at most over all."""
    codes = np.array([[-3.0], [-1.0], [1.0], [3.0]])
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert scores.irs(codes, factors, 1.0) == pytest.approx(1 - 1 / 3)
    both = np.concatenate([codes, [[1.0], [-1.0], [1.0], [-1.0]], np.ones((4, 1))], 1)
    assert scores.irs(both, factors, 1.0) == pytest.approx((3 * (2 / 3) + 1 * 1) / 4), "weighted by largest deviation"
    assert scores.irs(np.ones((4, 2)), factors) == 0


def test_explicitness_is_the_mean_area_under_the_roc() -> None:
    """AUC = P(a positive outranks a negative): 3/4 and 1/2 for the factor's values 4 and 8; value 9 is nobody's."""
    chances = [np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.5, 0.5, 0.0], [0.1, 0.3, 0.6]])]
    learnt, seen = np.array([[4], [8], [9]]), np.array([[4], [4], [8], [8]])
    assert scores.explicitness(chances, learnt, seen) == pytest.approx((3 / 4 + 2 / 4) / 2)


def test_r2_is_the_squared_correlation() -> None:
    codes = _noise(len(GRID)) + GRID[:, [0, 1, 2, 2]]
    expected = np.corrcoef(codes.T, GRID.T)[:4, 4:] ** 2
    assert np.allclose(scores.determination(codes, GRID), expected)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = _rng().normal(size=50)
    assert grouped_jackknife(lambda some: float(x[some].mean()), 50, 50) == pytest.approx(x.std(ddof=1) / 50**0.5)


def test_the_jackknife_of_mig_is_the_spread_of_repetition() -> None:
    def draw(seed: int) -> tuple[Any, Any]:
        factors = _rng(seed).integers(0, VALUES, size=(600, 3))
        return factors[:, [0, 1, 2]] + _noise(600, 3, seed), factors

    def statistic(codes: Any, factors: Any) -> float:
        return scores.mig(mutual_information(codes, factors), entropies(factors))

    found = [statistic(*draw(seed)) for seed in range(60)]
    codes, factors = draw(0)
    claimed = grouped_jackknife(lambda some: statistic(codes[some], factors[some]), 600)
    assert 0.5 < claimed / np.std(found) < 2


# Limits -----------------------------------------------------------------------------------------------------------


def test_perfect_codes_are_perfect() -> None:
    codes, factors = _perfect(GRID), GRID
    information = mutual_information(codes, factors)
    assert scores.mig(information, entropies(factors)) == pytest.approx(1)
    assert scores.modularity(information) == pytest.approx(1)
    assert scores.irs(codes, factors) == pytest.approx(1)
    assert scores.sap(scores.determination(codes, factors)) == pytest.approx(1)
    relied, right = scores.importances(codes, factors, codes, factors, "forest", 0)
    assert scores.dci_disentanglement(relied) == scores.dci_completeness(relied) == pytest.approx(1)
    assert right.mean() == 1
    learnt, judged = (draw_factors(factors, 400, _rng(seed), True) for seed in (0, 1))
    votes = [factor_vae_votes(codes, drawn, 3) for drawn in (learnt, judged)]
    assert factor_vae_score(*votes) == 1
    assert np.count_nonzero(votes[0]) == 3, "each factor has a unit of its own"
    pairs = [draw_factors(factors, 600, _rng(seed), False) for seed in (0, 1)]
    features = [beta_vae_features(codes, drawn) for drawn in pairs]
    assert beta_vae_score(features[0], pairs[0].factor, features[1], pairs[1].factor) == 1


def test_perfect_codes_of_two_values_are_perfectly_separable_and_explicit() -> None:
    factors = np.array(list(product((0, 1), repeat=3)) * 40)
    right = scores.separability(_perfect(factors), factors, _perfect(factors), factors)
    assert scores.sap(right.mean(0)) == pytest.approx(0.5), "the next unit is at chance, which is 1/2"
    assert np.allclose(right.mean(0).diagonal(), 1)
    assert _explicitness(_perfect(factors), factors, _perfect(factors), factors) == pytest.approx(1)


def test_random_codes_score_nothing() -> None:
    factors = _rng(5).integers(0, VALUES, size=(4000, 3))
    codes, other = _noise(4000, 6), _noise(4000, 6, 1)
    assert scores.mig(mutual_information(codes, factors), entropies(factors)) < 0.01
    assert scores.sap(scores.determination(codes, factors)) < 0.01
    right = scores.separability(codes[:1000], factors[:1000], other, factors)
    assert scores.sap(right.mean(0)) < 0.03
    relied, predicted = scores.importances(codes[:500], factors[:500], other, factors, "forest", 0)
    assert scores.dci_disentanglement(relied) < 0.05
    assert scores.dci_completeness(relied) < 0.05
    assert predicted.mean() == pytest.approx(np.mean([1 / 2, 1 / 4, 1 / 7]), abs=0.03)
    assert _explicitness(codes, factors, other, factors) == pytest.approx(0.5, abs=0.03)
    pairs = [draw_factors(factors, 3000, _rng(seed), False) for seed in (0, 1)]
    learnt, judged = (beta_vae_features(z, drawn) for z, drawn in zip((codes, other), pairs, strict=True))
    assert beta_vae_score(learnt, pairs[0].factor, judged, pairs[1].factor) == pytest.approx(1 / 3, abs=0.05)
    single = [draw_factors(factors, 3000, _rng(seed), True) for seed in (2, 3)]
    votes = [factor_vae_votes(z, drawn, 3) for z, drawn in zip((codes, other), single, strict=True)]
    assert factor_vae_score(*votes) == pytest.approx(1 / 3, abs=0.06)
    uniform = _rng().uniform(size=(4000, 6))
    assert scores.irs(uniform, factors) < 0.03


def test_a_factor_in_two_units_has_no_gap_and_one_unit_of_two_factors_no_modularity() -> None:
    codes = GRID[:, [0, 0, 1, 1, 2, 2]].astype(float)
    information = mutual_information(codes, GRID)
    assert scores.mig(information, entropies(GRID)) == 0
    assert scores.modularity(information) == pytest.approx(1)
    mixed = (GRID[:, :2] @ [1.0, 10.0])[:, None]  # tells both factors
    pair = GRID[:, :2]
    squares = entropies(pair) ** 2
    expected = 1 - squares.min() / squares.max()
    assert scores.modularity(mutual_information(mixed, pair, 400)) == pytest.approx(expected)


# Invariances ------------------------------------------------------------------------------------------------------


def _all(codes: Any, factors: Any) -> dict[str, float]:
    half = len(codes) // 2
    train, test = (codes[:half], factors[:half]), (codes[half:], factors[half:])
    relied, right = scores.importances(*train, *test, "forest", 0)
    pairs = [draw_factors(part[1], 400, _rng(seed), False) for seed, part in enumerate((train, test))]
    single = [draw_factors(part[1], 400, _rng(seed), True) for seed, part in enumerate((train, test))]
    votes = [factor_vae_votes(part[0], drawn, 3) for part, drawn in zip((train, test), single, strict=True)]
    features = [beta_vae_features(part[0], drawn) for part, drawn in zip((train, test), pairs, strict=True)]
    information = mutual_information(codes, factors)
    return {
        "mig": scores.mig(information, entropies(factors)),
        "modularity": scores.modularity(information),
        "local": float(np.mean(local_mig(codes, factors, _rng(), 5, 0.3, 4, 20))),
        "irs": scores.irs(codes, factors),
        "sap": scores.sap(scores.separability(*train, *test).mean(0)),
        "sap_r2": scores.sap(scores.determination(codes, factors)),
        "explicitness": _explicitness(*train, *test),
        "factor": factor_vae_score(*votes),
        "beta": beta_vae_score(features[0], pairs[0].factor, features[1], pairs[1].factor),
        "informativeness": float(right.mean()),
        "disentanglement": scores.dci_disentanglement(relied),
        "completeness": scores.dci_completeness(relied),
    }


def test_order_and_scale_of_units_do_not_matter() -> None:
    """Trees break ties between units by their order, so that DCI may move a little; IRS weighs units by their range."""
    factors = _rng(7).integers(0, VALUES, size=(1200, 3))
    codes = factors[:, [0, 1, 2, 2]] @ _rng(8).normal(size=(4, 5)) + 0.3 * _noise(1200, 5)
    plain = _all(codes, factors)
    for name, value in _all(codes[:, [3, 1, 4, 0, 2]], factors).items():
        trees = name in ("informativeness", "disentanglement", "completeness")
        assert value == pytest.approx(plain[name], abs=0.02 if trees else 1e-3), name
    for name, value in _all(codes * 2.0 ** np.array([1, 3, 0, 2, 5]), factors).items():
        if name != "irs":
            assert value == pytest.approx(plain[name], abs=1e-3), name
    assert _all(codes * 8, factors)["irs"] == pytest.approx(plain["irs"])
    assert 0.02 < plain["mig"] < 0.9, "the codes are neither perfect nor random"


# Draws ------------------------------------------------------------------------------------------------------------


def test_draws_share_what_they_should_and_no_image_meets_itself() -> None:
    factors = _rng(3).integers(0, VALUES, size=(300, 3))
    factors[0, 2] = 99  # a value of one image alone
    for one_value in (True, False):
        drawn = draw_factors(factors, 900, _rng(), one_value)
        assert np.bincount(drawn.factor) / 900 == pytest.approx(np.full(3, 1 / 3), abs=0.07)
        for factor, first, second in zip(*drawn, strict=True):
            shared = factors[first, factor]
            assert (shared == factors[second, factor]).all()
            assert (first != second).all()
            assert len(np.unique(shared)) == 1 or not one_value
            assert 99 not in shared
        assert len(np.unique(drawn.first)) > 290


def test_votes_are_the_papers_argmin_of_normalised_variances() -> None:
    factors, codes = GRID, _noise(len(GRID)) + GRID[:, [0, 1, 2, 2]]
    codes[:, 3] *= 1e-4  # idle: its own variance is small everywhere, and it is never chosen
    drawn = draw_factors(factors, 300, _rng(), True)
    votes = np.zeros((3, 4))
    for factor, images in zip(drawn.factor, drawn.first, strict=True):
        ratio = codes[images].var(0, ddof=1)[:3] / codes.var(0, ddof=1)[:3]
        votes[factor, ratio.argmin()] += 1
    assert (factor_vae_votes(codes, drawn, 3) == votes).all()


# Neighbourhoods ---------------------------------------------------------------------------------------------------


def test_local_mig_sees_what_is_disentangled_in_every_neighbourhood_alone() -> None:
    """Two factors swap units with the value of a third: globally mixed, locally perfect."""
    factors = np.array(list(product(range(2), range(8), range(8))) * 4)
    swap = factors[:, [0]] == 1
    codes = np.where(swap, factors[:, [2, 1]], factors[:, [1, 2]]).astype(float)
    assert scores.mig(mutual_information(codes, factors), entropies(factors)) < 0.5
    found = local_mig(codes, factors, _rng(), 20, 0.3, 6, 30)
    assert len(found) == 20
    assert found == pytest.approx([1] * 20)


def test_a_neighbourhood_is_a_box_around_its_centre() -> None:
    factors = np.array(list(product(range(2), range(10))))
    whole = scores.mig(mutual_information(factors[:10, [1, 0]] * 1.0, factors[:10]), entropies(factors[:10]))
    assert local_mig(factors[:, [1, 0]] * 1.0, factors, _rng(), 3, 1.0, 10, 10) == pytest.approx([whole] * 3)
    assert local_mig(factors * 1.0, factors, _rng(), 3, 0.2, 10, 6) == [], "at most five lie within two steps"
    assert len(local_mig(factors * 1.0, factors, _rng(), 99, 0.2, 10, 5)) == 12, "and five where no edge is near"
    assert local_mig(factors * 1.0, factors, _rng(), 3, 0.5, 11, 1) == [], "no factor counts as ordered"


# In the harness ---------------------------------------------------------------------------------------------------


def _data(counts: dict[str, int] | None = None, values: tuple[int, ...] = VALUES) -> Splits:
    """Images whose pixels are the factors, scaled to [0, 1]."""
    v = {split: torch.from_numpy(_rng(n).integers(0, values, size=(n, len(values))))
         for split, n in (counts or {"train": 700, "test": 400}).items()}  # fmt: skip
    top = torch.tensor(values) - 1.0
    return Splits({split: (part / top.clamp(min=1)).reshape(-1, 1, 1, len(values)) for split, part in v.items()}, v=v)


def _report(data: Splits, model: Any = None, **settings: Any) -> vb.Report:
    model = model or encoder(lambda x: 3 * x, len(VALUES))
    plan = {"learnt": 300, "drawn": 500, "neighbourhoods": 5, "ordered": 4, **settings}
    return vb.evaluate(model, data, measurements={**NONE, "disentanglement": plan})


def test_a_perfect_encoder_in_the_harness() -> None:
    found = _report(_data())
    for name in ("mig", "modularity", "irs", "local_mig", "sap_r2", "dci_disentanglement", "dci_completeness",
                 "dci_informativeness", "factor_vae_score", "beta_vae_score"):  # fmt: skip
        assert found.metrics[name].value == pytest.approx(1, abs=0.02), name
    assert found.metrics["explicitness"].value > 0.6
    assert 0 < found.metrics["sap"].value < 0.6
    assert found.metrics["mig"].se < 0.01
    assert found.metrics["sap"].n == 400
    assert "400 test images, learnt from 300 training images" in found.metrics["sap"].definition
    assert "250 draws of 64 pairs among 400 test images" in found.metrics["beta_vae_score"].definition
    information = np.array(found.tables["mutual_information"])
    assert information.diagonal() == pytest.approx(entropies(_data().v["test"].numpy()))
    assert np.array(found.tables["dci_importances"]) == pytest.approx(np.eye(3), abs=1e-9)
    assert json.loads(json.dumps(found.tables, allow_nan=False)) == found.tables
    assert _report(_data()).metrics == found.metrics


@pytest.mark.parametrize(("settings", "model"), [({}, "gradient boosting"), ({"dci": "forest"}, "random forest")])
def test_dci_by_the_authors_boosting_is_the_default_and_a_forest_is_named_so(
    settings: dict[str, str], model: str
) -> None:
    """Defect: DCI was a forest's under the authors' name."""
    plan = {"learnt": 100, "drawn": 100, "neighbourhoods": 2, "ordered": 2, **settings}
    found = vb.evaluate(
        encoder(lambda x: 3 * x, len(VALUES)),
        _data({"train": 120, "test": 60}),
        measurements={**NONE, "disentanglement": plan},
    ).metrics
    assert found["dci_disentanglement"].value == pytest.approx(1, abs=0.02)
    for name in ("dci_disentanglement", "dci_completeness", "dci_informativeness"):
        assert model in found[name].definition


def test_factors_that_do_not_vary_are_left_out() -> None:
    data = _data({"train": 300, "test": 200}, (2, 1, 7))
    found = _report(data)
    assert np.array(found.tables["mutual_information"]).shape == (3, 2)
    assert found.metrics["mig"].value == pytest.approx(1, abs=0.02)


def _first_black(data: Splits) -> str:
    index = int((data.x["test"].flatten(1).sum(1) == 0).nonzero()[0])
    return f"the posterior mean is not finite for image {index}"


def test_without_scores_there_is_a_reason() -> None:
    data = _data({"train": 100, "test": 60})

    def reasons(data: Splits, model: Any = None) -> set[str | None]:
        found = _report(data, model)
        assert len(found.metrics) == 12
        return {metric.unavailable for metric in found.metrics.values()}

    assert reasons(Splits(data.x)) == {"the data has no factors"}
    single = encoder(lambda x: x[:, :1], 1)
    assert reasons(data, single) == {"the code has a single unit, where 2 are needed"}
    (reason,) = reasons(data, without(encoder(lambda x: x, 3), posterior="mean"))
    assert "no mean" in reason
    assert reasons(data, encoder(lambda x: x / x.sum(1, keepdim=True), 3)) == {_first_black(data)}
    (reason,) = reasons(_data({"train": 100, "test": 60}, (2, 1, 1)))
    assert reason.startswith("1 of the factors vary")
    (reason,) = reasons(_data({"train": 100, "test": 60}, (2, 3, 10_000)))
    assert reason.startswith("factor 2 takes more than one value for every two images")
    idle = _report(data, encoder(lambda x: 0.01 * x, 3)).metrics
    assert "no unit's standard deviation reaches 0.05" in idle["factor_vae_score"].unavailable
    assert idle["beta_vae_score"].value > 0.9
    assert "no neighbourhood has 100 images" in idle["local_mig"].unavailable


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(UserError, match="unknown model 'tree'"):
        _report(_data(), dci="tree")
    for locality in (0.0, 1.5):
        with pytest.raises(UserError, match=f"locality is {locality}"):
            _report(_data(), locality=locality)
    with pytest.raises(UserError, match="drawn is 99"):
        _report(_data(), drawn=99)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_factor_value_that_occurs_once_ends_no_evaluation(split: str) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.arange(300)
    v = {name: torch.stack([grid % 3, grid // 3 % 4], 1) for name in ("train", "test")}
    v[split] = v[split].clone()
    v[split][7, 0] = 9
    x = {name: torch.rand(300, 1, 2, 2, generator=generator).double() for name in v}
    plan = {**NONE, "disentanglement": {"learnt": 200, "drawn": 200}}
    found = vb.evaluate(encoder(lambda x: x, 4), Splits(x, v=v), measurements=plan).metrics
    assert found["mig"].value is not None
    assert all(metric.value is not None or metric.unavailable for metric in found.values())
