"""Holm's procedure by hand and by definition, pairs against single comparisons, and ranks with ties."""

from __future__ import annotations

import numpy as np
import pytest

from vaebench.leaderboard.ranking import better, holm, pairwise, ranks
from vaebench.leaderboard.statistics import compare


def variant(
    rng: np.random.Generator, images: np.ndarray, mean: float, seeds: int = 3, noise: float = 0.3
) -> np.ndarray:
    luck, rest = rng.normal(0, 0.02, (seeds, 1)), rng.normal(0, noise, (seeds, len(images)))
    return images + mean + rng.normal(0, noise, len(images)) + luck + rest


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),  # 4 × 0.01; 3 × 0.02; 2 × 0.03; then never smaller
        ([0.04, 0.001, 0.03], [0.06, 0.003, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.03], [0.03]),
    ],
)
def test_holm_by_hand(p, adjusted):
    assert holm(np.array(p)) == pytest.approx(adjusted)


def test_holm_steps_down_as_his_paper_says():
    """Compare the smallest with α/m, the next with α/(m − 1), …, and stop at the first that fails."""
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 1, (200, 8)) ** 3
    adjusted = holm(table)
    for p, mine in zip(table, adjusted, strict=True):
        rejected, order = np.zeros(8, dtype=bool), np.argsort(p)
        for place, index in enumerate(order):
            if p[index] > 0.05 / (8 - place):
                break
            rejected[index] = True
        assert (mine <= 0.05).tolist() == rejected.tolist()


def test_all_pairs_at_once_are_the_single_comparisons():
    rng = np.random.default_rng(1)
    images = rng.normal(-90, 10, 80)
    figures = [variant(rng, images, mean, seeds) for mean, seeds in [(0, 3), (0.2, 1), (0.3, 5), (1, 1), (1, 2)]]
    difference, p = pairwise(figures)
    for i, first in enumerate(figures):
        for j, second in enumerate(figures):
            single = compare(first, second)
            assert difference[i, j] == pytest.approx(single.difference, abs=1e-10)
            assert p[i, j] == pytest.approx(single.p, rel=1e-6)


def test_ranks_part_where_the_difference_is_outside_the_noise_and_only_there():
    rng = np.random.default_rng(0)
    images = rng.normal(-90, 10, 2000)
    figures = [variant(rng, images, mean) for mean in [3.0, 1.0, 1.0, -4.0]]
    assert ranks(better(figures)) == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert ranks(better(figures[::-1])) == [(4, 4), (2, 3), (2, 3), (1, 1)]
    assert ranks(better(figures[:1])) == [(1, 1)]
    assert ranks(np.zeros((0, 0), dtype=bool)) == []


def test_the_more_variants_are_compared_the_more_it_takes_to_tell_two_apart():
    """Ten more that tie among themselves: 45 pairs that Holm cannot reject, so he must go on paying for them."""
    rng = np.random.default_rng(6)
    images = rng.normal(-90, 10, 100)
    noise = rng.normal(0, 0.5, 100)
    pair = [images[None], images[None] - noise + noise.mean() - 0.13]  # 2.6 standard errors
    assert 0.005 < compare(*pair).p < 0.02
    assert ranks(better(pair)) == [(1, 1), (2, 2)]
    others = [images[None] + rng.normal(0, 0.5, (1, 100)) - 50 for _ in range(10)]
    assert ranks(better([*pair, *others]))[:2] == [(1, 2), (1, 2)]


def test_identical_variants_tie_and_shifted_copies_do_not():
    images = np.random.default_rng(7).normal(-90, 10, (1, 50)).astype(np.float32)
    assert ranks(better([images, images])) == [(1, 2), (1, 2)]
    assert ranks(better([images, images - 0.5])) == [(1, 1), (2, 2)]
