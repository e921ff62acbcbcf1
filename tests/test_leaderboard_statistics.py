"""Standard errors, intervals and ranks against scipy and against simulations whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vaebench.leaderboard.statistics import compare, estimate, ranks


def runs(
    rng: np.random.Generator, images: np.ndarray, mean: float, seeds: int, luck: float, noise: float
) -> np.ndarray:
    """(seeds, n) figures: how hard images are, what the variant makes of each, the luck of a training, and the rest."""
    taste, rest = rng.normal(0, noise, len(images)), rng.normal(0, noise, (seeds, len(images)))
    return images + mean + taste + rng.normal(0, luck, (seeds, 1)) + rest


def test_an_estimate_is_scipys_mean_standard_error_and_t_interval():
    values = [-88.1, -87.6, -88.4, -87.9]
    found = estimate(values, [0.25, 0.26, 0.24, 0.25])
    assert found.mean == pytest.approx(np.mean(values))
    assert found.over_seeds == pytest.approx(stats.sem(values))
    assert found.interval == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert found.over_images == pytest.approx(0.25)
    assert found.seeds == 4


def test_one_seed_says_nothing_of_the_noise_over_seeds():
    found = estimate([-88.1], [0.25])
    assert (found.over_seeds, found.interval) == (None, None)
    assert (found.mean, found.over_images, found.seeds) == (-88.1, 0.25, 1)
    assert estimate([1.0, 2.0], [0.1, None]).over_images is None


def test_two_single_runs_are_compared_by_the_paired_t_test():
    rng = np.random.default_rng(0)
    images = rng.normal(-90, 10, 200)
    first, second = runs(rng, images, 0.2, 1, 0, 0.5), runs(rng, images, 0, 1, 0, 0.5)
    found = compare(first, second)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.interval == pytest.approx(tuple(stats.ttest_rel(first[0], second[0]).confidence_interval()))
    assert not found.seeds_counted


def test_without_noise_over_images_variants_are_compared_by_welchs_t_test_over_seeds():
    rng = np.random.default_rng(1)
    images, luck = rng.normal(-90, 10, 100), (rng.normal(0.5, 0.2, 4), rng.normal(0, 0.6, 3))
    found = compare(*(images + values[:, None] for values in luck))
    oracle = stats.ttest_ind(*luck, equal_var=False).confidence_interval()
    assert found.interval == pytest.approx(tuple(oracle), rel=1e-6)
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


@pytest.mark.parametrize("seeds", [(3, 3), (5, 2), (3, 1)])
@pytest.mark.parametrize(("luck", "noise"), [(0.0, 1.0), (0.3, 0.1), (0.1, 1.0)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(luck, noise, seeds):
    """Images, trainings and both together: 95 % within three standard errors, and not much wider than needed."""
    rng, trials, truth = np.random.default_rng(4), 1500, 0.25
    held = 0
    for _ in range(trials):
        images = rng.normal(-90, 10, 100)
        found = compare(*(runs(rng, images, mean, n, luck, noise) for mean, n in zip((truth, 0), seeds, strict=True)))
        held += found.interval[0] <= truth <= found.interval[1]
    slack = 3 * math.sqrt(0.95 * 0.05 / trials)
    assert 0.95 - slack <= held / trials <= 0.99


def test_ranks_part_where_the_difference_is_outside_the_noise_and_only_there():
    rng = np.random.default_rng(5)
    images = rng.normal(-90, 10, 2000)
    means = [3.0, 1.0, 1.0, -4.0]
    figures = [runs(rng, images, mean, 3, 0.02, 0.3) for mean in means]
    assert ranks(figures) == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert ranks(figures[::-1]) == [(4, 4), (2, 3), (2, 3), (1, 1)]
    assert ranks(figures[:1]) == [(1, 1)]
    assert ranks([]) == []


def test_equal_variants_are_called_different_at_most_as_often_as_the_level_allows():
    rng, trials = np.random.default_rng(6), 1000
    wrong = 0
    for _ in range(trials):
        images = rng.normal(-90, 10, 60)
        wrong += ranks([runs(rng, images, 0, 3, 0.2, 0.3) for _ in range(2)]) != [(1, 2), (1, 2)]
    assert stats.binomtest(wrong, trials, 0.05, alternative="greater").pvalue > 0.001
