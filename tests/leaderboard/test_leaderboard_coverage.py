"""Simulated variants with a known difference: how often intervals hold it, how often equals are told apart.

Figures are drawn as the records of the repository vary: images differ by tens of nats, variants share that; a variant
has a taste of images, a training has its luck, and a rest changes with both.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vaebench.leaderboard.bootstrap import bootstrap, median_difference
from vaebench.leaderboard.noise import Seeds, of_difference, of_mean
from vaebench.leaderboard.ranking import better, holm
from vaebench.leaderboard.statistics import compared, predictive, wins

TRIALS, TRUTH, IMAGES = 1000, 0.25, 300
SETTINGS = {  # sd of a training's luck, of a variant's taste and of the rest, in nats
    "seeds rule": (0.3, 1.0, 0.5),
    "both count": (0.1, 1.0, 0.5),
    "images rule": (0.02, 1.0, 0.5),
    "the rest rules": (0.05, 0.3, 1.0),
}
ALONE = {"no luck": (0.0, 1.0, 0.5)}


def runs(rng: np.random.Generator, images: np.ndarray, mean: float, seeds: int, setting: str, n: int) -> np.ndarray:
    """Figures (trials, seeds, n) on images (trials, 1, n)."""
    luck, taste, rest = (SETTINGS | ALONE)[setting]
    trials = len(images)
    one = rng.normal(0, luck, (trials, seeds, 1)) + rng.normal(0, taste, (trials, 1, n))
    return images + mean + one + rng.normal(0, rest, (trials, seeds, n))


def pair(setting: str, seeds: tuple[int, int], n: int = IMAGES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(-90, 10, (TRIALS, 1, n))
    return runs(rng, images, TRUTH, seeds[0], setting, n), runs(rng, images, 0, seeds[1], setting, n)


@pytest.mark.parametrize("seeds", [(3, 3), (5, 5), (5, 3)])
@pytest.mark.parametrize("setting", SETTINGS)
def test_intervals_hold_the_truth_in_93_to_97_percent(setting, seeds):
    """Of the mean, of the difference, and of the probability of improvement on a fresh image."""
    first, second = pair(setting, seeds)
    noise = of_mean(first)
    assert 0.93 <= np.mean(abs(first.mean((-1, -2)) + 90 - TRUTH) <= noise.half_width()) <= 0.97
    difference, noise = compared(first, second)
    assert 0.93 <= np.mean(abs(difference - TRUTH) <= noise.half_width()) <= 0.97
    won, noise = wins(first, second)
    truth = stats.norm.cdf(TRUTH / np.linalg.norm(SETTINGS[setting]) / np.sqrt(2))
    assert 0.93 <= np.mean(abs(won - truth) <= noise.half_width()) <= 0.975


def test_with_one_seed_each_the_interval_is_of_these_two_trainings():
    """93–97 % for the two trainings at hand, and far too few for the two variants, as no such run could tell."""
    rng = np.random.default_rng(4)
    luck = rng.normal(0, 0.3, (2, TRIALS, 1, 1))
    first, second = (figures + own for figures, own in zip(pair("no luck", (1, 1)), luck, strict=True))
    difference, noise = compared(first, second)
    assert (noise.seeds == 0).all()
    of_these = TRUTH + (luck[0] - luck[1]).ravel()
    assert 0.93 <= np.mean(abs(difference - of_these) <= noise.half_width()) <= 0.97
    assert np.mean(abs(difference - TRUTH) <= noise.half_width()) < 0.5


@pytest.mark.parametrize("setting", ["seeds rule", "both count"])
def test_where_one_variant_has_one_seed_intervals_hold_the_truth_too(setting):
    difference, noise = compared(*pair(setting, (3, 1)))
    assert 0.93 <= np.mean(abs(difference - TRUTH) <= noise.half_width()) <= 0.98


def test_the_probability_of_a_fresh_training_comes_true():
    """A calibrated prediction's own probability is uniform; with three seeds its tails are a little too long."""
    rng = np.random.default_rng(1)
    for setting in ("seeds rule", "both count"):
        fresh = TRUTH + rng.normal(0, SETTINGS[setting][0] * np.sqrt(2), TRIALS)
        found = predictive(*pair(setting, (3, 3)), fresh)
        assert stats.kstest(found, "uniform").pvalue > 0.01
        assert 0.02 <= np.mean((found < 0.025) | (found > 0.975)) <= 0.06


def test_percentiles_of_a_bootstrap_over_three_seeds_hold_the_truth_far_too_rarely():
    """Why intervals are not percentiles: even of the difference of two variants with three seeds each."""
    rng = np.random.default_rng(2)
    means = rng.normal(0, 1, (TRIALS, 2, 3))
    drawn = [np.take_along_axis(means, rng.integers(0, 3, (TRIALS, 2, 3)), -1).mean(-1) for _ in range(400)]
    low, high = np.quantile([d[:, 0] - d[:, 1] for d in drawn], [0.025, 0.975], axis=0)
    assert np.mean((low <= 0) & (high >= 0)) < 0.88
    difference, noise = compared(means[:, 0, :, None].repeat(2, -1), means[:, 1, :, None].repeat(2, -1))
    assert 0.93 <= np.mean(abs(difference) <= noise.half_width()) <= 0.975


def test_the_hierarchical_bootstrap_holds_a_median_difference_as_often_as_it_says():
    """Tastes of images are symmetric about the true difference, so their median is that too."""
    trials = 250
    first, second = (figures[:trials] for figures in pair("both count", (3, 3), n=60))
    held = 0
    for one, other in zip(first, second, strict=True):
        value, noise = bootstrap(median_difference, one, other, draws=150)
        held += abs(value - TRUTH) <= noise.half_width()
    assert 0.92 <= held / trials <= 0.99


# Many variants ----------------------------------------------------------------------------------------------------


def told_apart(
    count: int, seeds: int, setting: str, shifts: np.ndarray, trials: int = TRIALS, n: int = 40
) -> np.ndarray:
    """Verdicts (trials, count, count) on variants whose means differ by `shifts`."""
    rng = np.random.default_rng(3)
    images = rng.normal(-90, 10, (trials, 1, n))
    return better([runs(rng, images, shift, seeds, setting, n) for shift in shifts[:count]])


@pytest.mark.parametrize(
    ("setting", "seeds"), [("no luck", 1), *((setting, seeds) for setting in SETTINGS for seeds in (3, 5))]
)
def test_two_equal_variants_are_told_apart_in_at_most_5_percent(setting, seeds):
    wrong = int(told_apart(2, seeds, setting, np.zeros(2)).any((-1, -2)).sum())
    assert stats.binomtest(wrong, TRIALS, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seeds", [3, 5])
def test_of_twelve_equal_variants_no_two_are_told_apart_in_95_percent(setting, seeds):
    assert told_apart(12, seeds, setting, np.zeros(12)).any((-1, -2)).mean() <= 0.05


def test_one_students_t_for_both_noises_would_tell_equals_apart_far_too_often():
    """Why the error is a mixture: Satterthwaite's degrees of freedom, and 24 equal variants of three seeds."""
    rng, count, images = np.random.default_rng(5), 24, 0.001
    means, own = rng.normal(0, np.sqrt(images / 2), (TRIALS, count)), rng.normal(0, 0.1, (TRIALS, count, 3))
    means, raw, (rows, columns) = means + own.mean(-1), own.var(-1, ddof=1) / 3, np.triu_indices(count, 1)
    difference, first, second = means[:, rows] - means[:, columns], raw[:, rows], raw[:, columns]
    number = np.full(first.shape, 3.0)
    noise = of_difference(0 * first + images, 10_000, Seeds(first, first, number), Seeds(second, second, number))
    freedom = noise.error**4 / ((first**2 + second**2) / 2)
    plain = 2 * stats.t.sf(np.abs(difference) / noise.error, freedom)
    assert (holm(plain) < 0.05).any(-1).mean() > 0.15
    assert (holm(noise.p(difference)) < 0.05).any(-1).mean() <= 0.05


def test_false_verdicts_stay_rare_where_other_variants_differ():
    shifts = np.repeat([0.0, 5.0, 10.0, 15.0], 3)
    told = told_apart(12, 3, "both count", shifts)
    equal = shifts[:, None] == shifts[None, :]
    assert (told & equal).any((-1, -2)).mean() <= 0.05
    wrong_way = shifts[:, None] < shifts[None, :]
    assert not (told & wrong_way).any()
    assert (told | told.swapaxes(-1, -2))[:, ~equal].mean() > 0.9
