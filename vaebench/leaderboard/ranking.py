"""Ranks with ties among many variants: every pair is compared, and Holm's procedure pays for looking at them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaebench.leaderboard.noise import LEVEL, Seeds, of_difference, seeds


def holm(p: np.ndarray) -> np.ndarray:
    r"""Adjusted p-values: rejecting where one is below α makes any false rejection at all at most α probable.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min\{1, (m - j + 1)\, p_{(j)}\}, \qquad p_{(1)} \le \dots \le p_{(m)}

    Args:
        p: p-values (..., m), of tests that may depend on each other in any way.

    Reference:
        Holm 1979, https://www.jstor.org/stable/4615733.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    order, m = np.argsort(p, -1), p.shape[-1]
    stepped = np.take_along_axis(p, order, -1) * (m - np.arange(m))
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(stepped, -1), 1), -1)
    return adjusted


def pairwise(figures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Differences of all pairs and their p-values, each (..., m, m), from one product of matrices.

    Args:
        figures: (..., seeds, n) for each of m variants; the numbers of seeds may differ.
    """
    means = np.stack([one.mean(-2, dtype=np.float64) for one in figures], -2)  # (..., m, n)
    n, overall = means.shape[-1], means.mean(-1)
    rest = means - means.mean(-2, keepdims=True)  # what all share cancels in differences, and would cost digits here
    rest -= rest.mean(-1, keepdims=True)
    products = rest @ np.swapaxes(rest, -1, -2) / (n - 1)
    own = np.diagonal(products, 0, -2, -1)
    images = np.maximum(own[..., :, None] + own[..., None, :] - 2 * products, 0) / n
    parts = Seeds(*(np.stack(part, -1) for part in zip(*map(seeds, figures), strict=True)))
    row, column = (Seeds(*(np.expand_dims(part, axis) for part in parts)) for axis in (-1, -2))
    difference = overall[..., :, None] - overall[..., None, :]
    return difference, of_difference(images, n, row, column).p(difference)


def better(figures: Sequence[np.ndarray], level: float = LEVEL) -> np.ndarray:
    """Which variant scores higher than which beyond the noise, by Holm over all pairs: booleans (..., m, m).

    With a probability of at least `level` (95 %), no pair of equal variants is told apart.

    Args:
        figures: as `pairwise` takes them.
        level: 1 less the probability of any false verdict.
    """
    difference, p = pairwise(figures)
    rows, columns = np.triu_indices(len(figures), 1)
    told = np.zeros(p.shape, dtype=bool)
    if len(rows):
        told[..., rows, columns] = holm(p[..., rows, columns]) < 1 - level
    return (told | np.swapaxes(told, -1, -2)) & (difference > 0)


def ranks(better: np.ndarray) -> list[tuple[int, int]]:
    """First and last rank that each variant may hold, of `better`'s verdicts (m, m): 1 + those better, m − those worse.

    All the intervals hold at once with the level of `better`.

    >>> rng = np.random.default_rng(0)
    >>> image = rng.normal(size=1000)
    >>> ranks(better([image + rng.normal(mean, 0.1, (3, 1000)) for mean in (5.0, 3.0, 3.0)]))
    [(1, 1), (2, 3), (2, 3)]
    """
    return [(1 + int(better[:, i].sum()), len(better) - int(better[i].sum())) for i in range(len(better))]
