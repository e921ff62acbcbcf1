"""Verdicts on all pairs of a board against Tukey's range and by hand, and ranks with ties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vaebench.leaderboard.moderation import Trainings, evidence, trainings
from vaebench.leaderboard.ranking import better, ranks, significant
from vaebench.leaderboard.statistics import compare


def variant(
    rng: np.random.Generator, images: np.ndarray, mean: float, seeds: int = 3, noise: float = 0.3
) -> np.ndarray:
    luck, rest = rng.normal(0, 0.02, (seeds, 1)), rng.normal(0, noise, (seeds, len(images)))
    return images + mean + rng.normal(0, noise, len(images)) + luck + rest


def learned(figures: list[np.ndarray]) -> Trainings:
    return trainings(evidence(figures))


def none(m: int) -> Trainings:
    """Trainings that do not scatter."""
    return Trainings(np.zeros((4000, m)), np.ones(m, dtype=bool))


@pytest.mark.parametrize("m", [2, 10, 40])
@pytest.mark.parametrize("seeds", [False, True])
def test_with_one_known_noise_the_first_verdict_is_tukeys(m, seeds):
    """Equal variances, from images or from seeds: the largest of all differences follows the studentised range."""
    images = 0 if seeds else np.eye(m)
    variances = np.full((20_000, m), float(seeds))
    critical = stats.studentized_range.ppf(0.95, m, 100_000)
    for share, told in ((0.96, False), (1.04, True)):
        means = np.append(np.zeros(m - 1), share * critical)
        assert significant(means, images * np.eye(m), 100_000, variances)[0, -1] == told


def test_few_images_widen_what_is_told_apart_as_students_t():
    critical = stats.t.ppf(0.975, 4) * np.sqrt(2)
    for share, told in ((0.93, False), (1.07, True)):
        found = significant(np.array([0, share * critical]), np.eye(2), 5, np.zeros((20_000, 2)))
        assert found[0, 1] == told


def test_a_variant_of_which_little_is_known_does_not_widen_what_others_must_show():
    variances = np.ones((4000, 6))
    means = np.array([0.0, 5.0, 0.0, 0.0, 0.0, 0.0])
    assert significant(means, 0 * np.eye(6), 1000, variances)[0, 1]
    variances[:, 5] = 1e4
    assert significant(means, 0 * np.eye(6), 1000, variances)[0, 1]
    assert not significant(means + 100 * np.eye(6)[5], 0 * np.eye(6), 1000, variances)[:, 5].any()


def test_what_is_told_apart_leaves_less_to_pay_for():
    """Step-down: 3.2 deviations part only once two variants far off have parted from all others."""
    variances, gap = np.ones((4000, 4)), 3.2
    near = significant(np.array([0, gap, 1.6, 1.6]), 0 * np.eye(4), 1000, variances)
    far = significant(np.array([0, gap, 50, 100]), 0 * np.eye(4), 1000, variances)
    assert (near[0, 1], far[0, 1]) == (False, True)


def test_ranks_part_where_the_difference_is_outside_the_noise_and_only_there():
    rng = np.random.default_rng(0)
    images = rng.normal(-90, 10, 2000)
    figures = [variant(rng, images, mean) for mean in [3.0, 1.0, 1.0, -4.0]]
    assert ranks(better(figures, learned(figures))) == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert ranks(better(figures[::-1], learned(figures[::-1]))) == [(4, 4), (2, 3), (2, 3), (1, 1)]
    assert ranks(better(figures[:1], learned(figures[:1]))) == [(1, 1)]
    assert ranks(np.zeros((0, 0), dtype=bool)) == []


def test_the_more_variants_are_compared_the_more_it_takes_to_tell_two_apart():
    """Ten more that tie among themselves must be paid for too."""
    rng = np.random.default_rng(6)
    images = rng.normal(-90, 10, 100)
    noise = rng.normal(0, 0.5, 100)
    pair = [images[None], images[None] - noise + noise.mean() - 0.13]  # 2.6 standard errors
    assert 0.005 < compare(*pair, none(2)).p < 0.02
    assert ranks(better(pair, none(2))) == [(1, 1), (2, 2)]
    others = [images[None] + rng.normal(0, 0.5, (1, 100)) - 50 for _ in range(10)]
    assert ranks(better([*pair, *others], none(12)))[:2] == [(1, 2), (1, 2)]


def test_identical_variants_tie_and_shifted_copies_do_not():
    images = np.random.default_rng(7).normal(-90, 10, (1, 50)).astype(np.float32)
    assert ranks(better([images, images], none(2))) == [(1, 2), (1, 2)]
    assert ranks(better([images, images - 0.5], none(2))) == [(1, 1), (2, 2)]
