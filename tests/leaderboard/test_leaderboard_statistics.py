"""Standard errors, intervals and probabilities against scipy; simulations stand in test_leaderboard_coverage.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vaebench.leaderboard.bootstrap import bootstrap, median_difference
from vaebench.leaderboard.noise import Noise, of_mean, seeds
from vaebench.leaderboard.statistics import (
    after_fresh_trainings,
    compare,
    compared,
    estimate,
    on_a_fresh_image,
    wins,
)


def runs(
    rng: np.random.Generator, images: np.ndarray, mean: float, seeds: int, luck: float, noise: float
) -> np.ndarray:
    """(seeds, n) figures: how hard images are, what the variant makes of each, the luck of a training, and the rest."""
    taste, rest = rng.normal(0, noise, len(images)), rng.normal(0, noise, (seeds, len(images)))
    return images + mean + taste + rng.normal(0, luck, (seeds, 1)) + rest


def test_an_estimate_without_image_errors_is_scipys_t_interval_over_seeds():
    values = [-88.1, -87.6, -88.4, -87.9]
    found = estimate(values, [None] * 4)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.over_seeds == pytest.approx(stats.sem(values))
    assert found.interval == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert (found.covers, found.seeds) == ("seeds", 4)


def test_an_estimates_interval_adds_the_noise_over_images_to_that_over_seeds():
    values, errors = [-88.1, -87.6, -88.4, -87.9], [0.25, 0.26, 0.24, 0.25]
    found = estimate(values, errors)
    assert found.over_images == pytest.approx(0.25)
    assert found.covers == "seeds and images"
    error, low = math.hypot(0.25, stats.sem(values)), found.interval[0]
    share = stats.sem(values) ** 2 / error**2
    tail = (1 - share) * stats.norm.sf((found.mean - low) / error) + share * stats.t.sf((found.mean - low) / error, 3)
    assert tail == pytest.approx(0.025)


def test_one_seed_says_nothing_of_the_noise_over_seeds():
    found = estimate([-88.1], [0.25], images=40)
    assert (found.mean, found.over_seeds, found.over_images, found.seeds) == (-88.1, None, 0.25, 1)
    assert found.interval == pytest.approx(stats.t.interval(0.95, 39, -88.1, 0.25))
    assert found.covers == "images"
    assert estimate([1.0, 2.0], [0.1, None]).over_images is None
    nothing = estimate([14.0], [None])
    assert (nothing.interval, nothing.covers) == (None, None)


def test_of_one_seed_the_mean_has_scipys_interval_over_images():
    figures = np.random.default_rng(8).normal(-90, 10, (1, 50))
    expected = stats.t.interval(0.95, 49, figures.mean(), stats.sem(figures[0]))
    assert figures.mean() - of_mean(figures).half_width() == pytest.approx(expected[0])


def test_the_variance_of_seeds_is_that_of_a_two_way_analysis_of_variance():
    """Against sums of squares written out: raw is MS(seeds) / nS, net is (MS(seeds) − MS(rest)) / nS."""
    y = np.random.default_rng(9).normal(size=(4, 25)) + np.array([0.5, -0.2, 0.1, -0.6])[:, None]
    mean_square = 25 * sum((y[s].mean() - y.mean()) ** 2 for s in range(4)) / 3
    rest = sum(
        (y[s, i] - y[s].mean() - y[:, i].mean() + y.mean()) ** 2 for s in range(4) for i in range(25)
    ) / (3 * 24)  # fmt: skip
    found = seeds(y)
    assert found.raw == pytest.approx(mean_square / 100)
    assert found.net == pytest.approx((mean_square - rest) / 100)
    assert seeds(y - y.mean(1, keepdims=True)).net == 0


def test_an_interval_holds_the_values_that_the_p_value_does_not_reject():
    noise = Noise(*map(np.array, ([0.2, 1.0, 0.0], [0.4, 0.0, 1.0], [99.0, 9.0, 9.0], [2.0, 1.0, 4.0])))
    for level in (0.5, 0.95, 0.9999):
        assert noise.p(noise.half_width(level)) == pytest.approx(1 - level, rel=1e-6)
    assert noise.half_width()[1:] == pytest.approx(stats.t.ppf(0.975, [9, 4]))


def test_two_single_runs_are_compared_by_the_paired_t_test():
    rng = np.random.default_rng(0)
    images = rng.normal(-90, 10, 200)
    first, second = runs(rng, images, 0.2, 1, 0, 0.5), runs(rng, images, 0, 1, 0, 0.5)
    found = compare(first, second)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.interval == pytest.approx(tuple(stats.ttest_rel(first[0], second[0]).confidence_interval()))
    assert found.p == pytest.approx(stats.ttest_rel(first[0], second[0]).pvalue)
    assert (found.seeds_counted, found.over_seeds) == (False, None)


def test_without_noise_over_images_variants_are_compared_by_welchs_t_test_over_seeds():
    rng = np.random.default_rng(1)
    images, luck = rng.normal(-90, 10, 100), (rng.normal(0.5, 0.2, 4), rng.normal(0, 0.6, 3))
    found = compare(*(images + values[:, None] for values in luck))
    oracle = stats.ttest_ind(*luck, equal_var=False)
    assert found.interval == pytest.approx(tuple(oracle.confidence_interval()), rel=1e-6)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-6)
    assert found.seeds_counted


def test_where_one_variant_has_one_seed_the_others_noise_stands_for_both():
    images, means = np.zeros(100), np.array([1.0, 1.3, 0.8])
    found = compare(images + means[:, None], np.zeros((1, 100)))
    half = stats.t.ppf(0.975, 2) * means.std(ddof=1) * math.sqrt(1 / 3 + 1)
    assert found.interval == pytest.approx((means.mean() - half, means.mean() + half))
    assert found.seeds_counted


def test_swapping_the_variants_turns_the_difference_round():
    rng = np.random.default_rng(2)
    images = rng.normal(-90, 10, 50)
    first, second = runs(rng, images, 0.3, 3, 0.1, 0.5), runs(rng, images, 0, 2, 0.1, 0.5)
    there, back = compare(first, second), compare(second, first)
    assert back.difference == pytest.approx(-there.difference)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_a_variant_ties_with_itself_and_not_with_a_shifted_copy():
    images = np.random.default_rng(3).normal(-90, 10, (3, 64)).astype(np.float32)
    assert compare(images, images).tie
    assert compare(images, images).difference == 0
    assert compare(images[:1], images[:1]).interval == (0, 0)
    assert compare(images[:1], images[:1] - 0.5).interval == pytest.approx((0.5, 0.5), abs=1e-5)


# Probability of improvement and the bootstrap ---------------------------------------------------------------------


def test_a_fresh_image_is_won_as_often_as_mann_and_whitney_count():
    """On images of one difficulty every image is a sample of both, and scipy counts the same pairs."""
    rng = np.random.default_rng(10)
    first, second = rng.integers(0, 6, 7).astype(float), rng.integers(0, 6, 4).astype(float)
    statistic = stats.mannwhitneyu(first, second).statistic
    found = on_a_fresh_image(np.repeat(first[:, None], 5, 1), np.repeat(second[:, None], 5, 1))
    assert found.value == pytest.approx(statistic / 28)
    assert found.interval[0] < found.value < found.interval[1]


def test_who_wins_every_image_wins_a_fresh_one_and_nobody_wins_against_himself():
    images = np.random.default_rng(11).normal(-90, 10, (3, 50))
    assert on_a_fresh_image(images[:1] + 1, images[:1]).value == 1
    assert on_a_fresh_image(images[:1], images[:1]).value == 0.5
    there, back = on_a_fresh_image(images[:2] + 3, images[1:]), on_a_fresh_image(images[1:], images[:2] + 3)
    assert there.value == pytest.approx(1 - back.value)
    assert there.interval == pytest.approx((1 - back.interval[1], 1 - back.interval[0]))


def test_fresh_trainings_follow_the_predictive_t_distribution():
    """Without noise over images, and with equal variances: the textbook's prediction interval for a new observation."""
    luck = np.array([0.1, 0.4, 0.0]), np.array([-0.1, 0.2, -0.2])
    images = np.random.default_rng(12).normal(-90, 10, 40)
    variance, difference = luck[0].var(ddof=1), luck[0].mean() - luck[1].mean()
    assert luck[1].var(ddof=1) == pytest.approx(variance)
    found = after_fresh_trainings(*(images + values[:, None] for values in luck))
    assert found.value == pytest.approx(stats.t.cdf(difference / math.sqrt(2 * variance * (1 + 1 / 3)), 4), rel=1e-6)
    assert after_fresh_trainings(images[None], np.stack([images, images])) is None


@pytest.mark.parametrize("numbers", [(3, 3), (5, 2), (3, 1), (1, 1)])
def test_the_bootstrap_of_what_has_a_formula_gives_the_formula(numbers):
    rng = np.random.default_rng(13)
    images = rng.normal(-90, 10, 200)
    first, second = (runs(rng, images, mean, n, 0.3, 0.5) for mean, n in zip((1, 0), numbers, strict=True))

    def difference(a, b):
        return a.mean((-1, -2)) - b.mean((-1, -2))

    def won(a, b):
        return wins(a, b)[0]

    for statistic, (value, noise) in ((difference, compared(first, second)), (won, wins(first, second))):
        found, drawn = bootstrap(statistic, first, second, draws=2000)
        assert found == pytest.approx(float(value))
        assert drawn.images == pytest.approx(noise.images, rel=0.15)
        assert drawn.seeds == pytest.approx(noise.seeds, rel=0.2, abs=1e-5)
        assert drawn.seed_freedom == pytest.approx(noise.seed_freedom, rel=0.2)


def test_the_bootstrap_of_the_median_is_scipys_over_images_and_repeats_itself():
    rng = np.random.default_rng(14)
    difference = rng.gamma(2.0, 1.0, 400)
    found, noise = bootstrap(median_difference, difference[None], np.zeros((1, 400)))
    oracle = stats.bootstrap((difference,), np.median, n_resamples=2000, method="basic", rng=rng)
    assert found == np.median(difference)
    assert noise.error == pytest.approx(oracle.standard_error, rel=0.15)
    assert bootstrap(median_difference, difference[None], np.zeros((1, 400)))[1] == noise
