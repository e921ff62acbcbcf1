"""Standard errors, intervals and probabilities against scipy; simulations stand in test_leaderboard_coverage.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import elementwise

from vaebench.leaderboard.bootstrap import bootstrap, median_difference
from vaebench.leaderboard.moderation import Trainings, evidence, trainings
from vaebench.leaderboard.noise import Drawn, Noise, of_difference, of_mean, seeds
from vaebench.leaderboard.statistics import (
    after_fresh_trainings,
    carried,
    compare,
    estimate,
    on_a_fresh_image,
    wilson,
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
    assert (found.provisional, found.over_seeds) == (True, None)
    assert stats.norm.ppf(0.975) * math.hypot(found.over_images, found.turns * math.sqrt(2)) == pytest.approx(
        abs(found.difference), rel=1e-5
    )


def test_without_noise_over_images_two_variants_of_many_seeds_are_compared_by_the_t_test_over_seeds():
    rng = np.random.default_rng(1)
    images, luck = rng.normal(-90, 10, 100), (rng.normal(0.1, 0.4, 30), rng.normal(0, 0.4, 30))
    found = compare(*(images + values[:, None] for values in luck))
    oracle = stats.ttest_ind(*luck)
    assert found.interval == pytest.approx(tuple(oracle.confidence_interval()), abs=0.02)
    assert found.p == pytest.approx(oracle.pvalue, rel=0.5)
    assert not found.provisional


def test_a_known_scatter_over_trainings_enters_by_the_number_of_seeds():
    images, noise = np.zeros(100), Trainings(np.full((50, 2), 0.09), np.ones(2, dtype=bool))
    found = compare(images + np.array([1.0, 1.3, 0.8])[:, None], np.zeros((1, 100)), noise)
    half = stats.norm.ppf(0.975) * math.sqrt(0.09 / 3 + 0.09)
    assert found.interval == pytest.approx((31 / 30 - half, 31 / 30 + half))


def test_drawn_noise_mixes_students_t_of_images_with_the_draws_over_seeds():
    noise = Drawn(1.0, 6, np.zeros(3))
    assert noise.half_width() == pytest.approx(stats.t.ppf(0.975, 6))
    mixed = Drawn(0.0, 6, np.array([1.0, 4.0]))
    assert mixed.p(2.0) == pytest.approx(stats.norm.sf(2) + stats.norm.sf(1))
    assert mixed.p(mixed.half_width(0.9)) == pytest.approx(0.1)


def test_swapping_the_variants_turns_the_difference_round():
    rng = np.random.default_rng(2)
    images = rng.normal(-90, 10, 50)
    first, second = runs(rng, images, 0.3, 3, 0.1, 0.5), runs(rng, images, 0, 2, 0.1, 0.5)
    noise = trainings(evidence([first, second]))
    there, back = compare(first, second, noise), compare(second, first, noise.of(1, 0))
    assert compare(first, second) == there
    assert back.difference == pytest.approx(-there.difference)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_a_variant_ties_with_itself_and_not_with_a_shifted_copy():
    images = np.random.default_rng(3).normal(-90, 10, (3, 64)).astype(np.float32)
    assert compare(images, images).tie
    assert compare(images, images).difference == 0
    assert compare(images[:1], images[:1]).interval == (0, 0)
    assert compare(images[:1], images[:1] - 0.5).interval == pytest.approx((0.5, 0.5), abs=1e-5)


def test_the_image_that_carries_a_comparison_is_named_beside_what_the_others_say():
    difference = np.concatenate([np.linspace(-1, 1, 39), [200.0]])
    image, share, trimmed = carried(difference[None], np.zeros((1, 40)))
    assert (image, trimmed) == (39, pytest.approx(stats.trim_mean(difference, 0.1)))
    assert share == pytest.approx((200 - difference.mean()) ** 2 / ((difference - difference.mean()) ** 2).sum())
    assert carried(np.ones((1, 40)), np.zeros((1, 40)))[1:] == (0, 1)


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


def test_a_probability_has_a_width_where_all_images_agree_and_stays_between_0_and_1():
    """Wilson's interval, against scipy's on independent images."""
    oracle = stats.binomtest(47, 50).proportion_ci(method="wilson")
    found = wilson(0.94, math.sqrt(0.94 * 0.06 / 50), 1.959964 * math.sqrt(0.94 * 0.06 / 50), 50)
    assert found == pytest.approx((oracle.low, oracle.high))
    images = np.random.default_rng(11).normal(-90, 10, (1, 50))
    oracle = stats.binomtest(50, 50).proportion_ci(method="wilson")
    assert on_a_fresh_image(images + 1, images).interval == pytest.approx((oracle.low, oracle.high))


def test_half_widths_are_the_roots_that_scipy_finds():
    rng = np.random.default_rng(13)
    noise = Noise(*rng.random((2, 50)), rng.integers(1, 5000, 50) * 1.0, rng.integers(1, 5, 50) * 1.0)
    roots = elementwise.find_root(lambda e, *of: Noise(*of).below(e) - 0.975, (0, 200), args=tuple(noise))
    np.testing.assert_allclose(noise.half_width(), roots.x, rtol=1e-10)


def test_fresh_trainings_follow_the_predictive_distribution():
    """Without noise over images, and with a known scatter: that of one training more for each."""
    luck = np.array([0.1, 0.4, 0.0]), np.array([-0.1, 0.2, -0.2])
    images = np.random.default_rng(12).normal(-90, 10, 40)
    noise = Trainings(np.full((50, 2), 0.04), np.ones(2, dtype=bool))
    found = after_fresh_trainings(*(images + values[:, None] for values in luck), noise)
    difference = luck[0].mean() - luck[1].mean()
    assert found.value == pytest.approx(stats.norm.cdf(difference / math.sqrt(2 * 0.04 * (1 + 1 / 3))))
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

    paired = first.mean(0) - second.mean(0)
    compared = paired.mean(), of_difference(paired.var(ddof=1) / 200, 200, seeds(first), seeds(second))
    for statistic, (value, noise) in ((difference, compared), (won, wins(first, second))):
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
