"""The noise over trainings that a board learns: against closed forms, what it shrinks, and what it does not claim."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from vaebench.leaderboard import moderation
from vaebench.leaderboard.moderation import LEAST_FREEDOM, Evidence, evidence, trainings


def of(deviations: np.ndarray, seeds: int, rng: np.random.Generator, chance: float = 0.0) -> Evidence:
    """What `seeds` seeds of each variant say."""
    freedom = np.full(len(deviations), seeds - 1.0)
    variance = (deviations**2 + chance) * rng.chisquare(seeds - 1, len(deviations)) / freedom
    return Evidence(variance, freedom, np.full(len(deviations), chance))


def middle(found: moderation.Trainings) -> np.ndarray:
    return np.asarray(np.sqrt(np.median(found.variances, 0)))


def test_pooled_noise_has_the_scaled_inverse_chi_square_distribution(monkeypatch):
    """With ω = 0 and no outliers: all seeds of the board estimate one variance."""
    monkeypatch.setattr(moderation, "PRIOR", np.eye(len(moderation.SPREADS))[0])
    monkeypatch.setattr(moderation, "OUTLIERS", 0.0)
    known = Evidence(np.array([1.0, 2.0, 0.5, 4.0]), np.array([2.0, 1.0, 4.0, 2.0]), np.zeros(4))
    found = trainings(known, draws=20_000)
    logs = np.log(found.variances[:, 0])
    total = (known.variance * known.freedom).sum()
    assert logs.mean() == pytest.approx(np.log(total / 2) - digamma(4.5), abs=0.02)
    assert logs.var() == pytest.approx(polygamma(1, 4.5), rel=0.05)


def test_evidence_is_the_variance_of_seeds_means_and_what_chance_adds_to_it():
    y = np.random.default_rng(9).normal(size=(4, 25))
    found = evidence([y, y[:1]])
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    assert found.variance == pytest.approx([y.mean(1).var(ddof=1), 0])
    assert found.chance == pytest.approx([(rest**2).sum() / (3 * 24) / 25, 0])
    assert found.freedom.tolist() == [3, 0]


def test_where_variants_scatter_alike_a_lucky_one_is_not_believed():
    known = of(np.ones(20), 3, np.random.default_rng(0))
    known.variance[:2] = 0.03, 4.0
    low, high = middle(trainings(known))[:2]
    assert low > 0.5
    assert high < 1.6


def test_where_they_scatter_differently_each_is_believed():
    rng = np.random.default_rng(1)
    deviations = np.exp(rng.normal(0, 1, 30))
    known = of(deviations, 10, rng)
    assert middle(trainings(known)) == pytest.approx(np.sqrt(known.variance), rel=0.35)


def test_one_seed_may_scatter_far_more_than_the_others_do():
    known = of(np.ones(12), 3, np.random.default_rng(2)) + Evidence(*np.zeros((3, 1)))
    found = trainings(known)
    assert found.known.all()
    ordinary, alone = np.sqrt(np.quantile(found.variances[:, [0, -1]], 0.99, 0))
    assert alone > 5 * ordinary


@pytest.mark.parametrize(("variants", "known"), [(LEAST_FREEDOM // 2 - 1, False), (LEAST_FREEDOM // 2, True)])
def test_a_variant_of_one_seed_is_known_where_the_others_seeds_are_enough(variants, known):
    board = of(np.ones(variants), 3, np.random.default_rng(3)) + Evidence(*np.zeros((3, 1)))
    found = trainings(board)
    assert found.known.tolist() == [True] * variants + [known]
    alone = Evidence(*np.zeros((3, 2)))
    assert not trainings(alone).known.any()
    assert trainings(alone, of(np.ones(variants), 3, np.random.default_rng(3))).known.all() == known


def test_seeds_that_scatter_no_more_than_chance_prove_no_lack_of_noise():
    """Two variants of two seeds whose variance chance alone explains: the noise may still be as large as that."""
    known = Evidence(np.full(2, 1.0), np.ones(2), np.full(2, 1.0))
    assert np.quantile(trainings(known).variances[:, 0], 0.9) > 1


def test_two_seeds_cannot_decide_where_noise_plainly_differs():
    rng, many = np.random.default_rng(4), 40
    assert trainings(of(np.exp(rng.normal(0, 1.5, many)), 2, rng)).two_cannot_decide
    assert not trainings(of(np.ones(many), 2, rng)).two_cannot_decide
    assert not trainings(of(np.exp(rng.normal(0, 1.5, many)), 3, rng)).two_cannot_decide


def test_draws_repeat_themselves_and_seeds_without_any_scatter_have_none():
    known = of(np.ones(5), 3, np.random.default_rng(5))
    assert (trainings(known).variances == trainings(known).variances).all()
    assert not trainings(known._replace(variance=np.zeros(5))).variances.any()
