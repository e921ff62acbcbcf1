"""Ranks with ties among many variants, from simultaneous comparisons of all pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from vaebench.leaderboard.moderation import Trainings
from vaebench.leaderboard.noise import LEVEL


def significant(
    means: np.ndarray,
    images: np.ndarray,
    n: int,
    variances: np.ndarray,
    level: float = LEVEL,
    seed: int = 0,
    opened: np.ndarray | float = 0.0,
) -> np.ndarray:
    r"""Which of m variants differ significantly, with all pairs tested at once: booleans (m, m).

    Errors of all means are drawn jointly. A pair is significant where its difference exceeds the largest one that equal
    variants would show anywhere on the board with probability 5 %:

    .. math:: |\hat\mu_i - \hat\mu_j| > c\, w_{ij}, \qquad
        P\Bigl(\max_{ij} \frac{|e_i - e_j|}{w_{ij}} > c\Bigr) = 0.05, \qquad w_{ij}^2 = z^2 V_{ij} + a_i^2 + a_j^2

    V is the variance of the paired difference over images; z and a are the 5 % / m quantiles of normal noise and of the
    seeds' part of an error, so that variants with uncertain noise do not raise the threshold of others. The maximum is
    then taken over the remaining pairs until no more are significant (step-down).

    Args:
        means: (m,). images: covariance (m, m) of their errors over n images; a common component does not matter.
        variances: draws (draws, m) of the variance of each mean over seeds.
        level: 1 − probability of any false verdict. seed: of the draws.
        opened: possible change of each difference by the estimator, (m, m), which does not count as a difference.

    Reference:
        Romano and Wolf 2005, https://doi.org/10.1198/016214504000000539, for step-down maxima.
    """
    draws, m = variances.shape
    first, second = np.triu_indices(m, 1)
    rng, alpha = np.random.default_rng(seed), 1 - level
    values, vectors = np.linalg.eigh(images)
    errors = rng.normal(size=(draws, m)) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    errors *= np.sqrt((n - 1) / rng.chisquare(n - 1, (draws, 1)))
    errors += rng.normal(size=(draws, m)) * np.sqrt(variances)
    own = np.diagonal(images)
    pairs = np.maximum(own[first] + own[second] - 2 * images[first, second], 0)
    tails = _exceeded(variances, alpha / m) ** 2
    widths = np.sqrt(ndtri(1 - alpha / m / 2) ** 2 * pairs + tails[first] + tails[second])
    widths = np.maximum(widths, np.finfo(float).tiny)
    free = np.broadcast_to(opened, (m, m))[first, second]
    seen = np.maximum(np.abs(means[first] - means[second]) - free, 0) / widths
    drawn = np.abs(errors[:, first] - errors[:, second]) / widths
    differ, left = np.zeros((m, m), dtype=bool), np.arange(len(first))
    while len(left):
        new = seen[left] > np.quantile(drawn[:, left].max(1), level)
        if not new.any():
            break
        differ[first[left[new]], second[left[new]]] = True
        left = left[~new]
    return differ | differ.T


def _exceeded(variances: np.ndarray, probability: float) -> np.ndarray:
    """Upper quantile of the absolute value of normal noise with drawn variances (draws, m): (m,)."""
    deviations = np.sqrt(variances) + np.finfo(float).tiny
    low, high = np.zeros(variances.shape[1]), np.sqrt(np.median(variances, 0)) + np.finfo(float).tiny

    def often(value: np.ndarray) -> np.ndarray:
        return np.asarray(2 * ndtr(-value / deviations).mean(0) > probability)

    while (more := often(high)).any():
        low, high = np.where(more, high, low), np.where(more, 2 * high, high)
    for _ in range(8):  # to a 256th, enough for the balance between pairs
        middle = (low + high) / 2
        more = often(middle)
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return high


def better(
    figures: Sequence[np.ndarray], noise: Trainings, level: float = LEVEL, opened: np.ndarray | float = 0.0
) -> np.ndarray:
    """Which variant scores significantly higher than which: booleans (m, m).

    With a probability of at least `level` (95 %), no pair of equal variants is declared different, provided that the
    noise over trainings follows the model of `moderation.py`.

    Args:
        figures: (seeds, n) for each of m variants; the numbers of seeds may differ. With n = 1, one value per run, the
            noise is that over trainings alone.
        noise: of their trainings; known for all.
        level: 1 − probability of any false verdict.
        opened: possible change of each difference by the estimator, (m, m).
    """
    means = np.stack([one.mean(0, dtype=np.float64) for one in figures])  # (m, n)
    overall, n = means.mean(-1), means.shape[-1]
    rest = means - means.mean(0)  # a common component cancels in differences, and would cost digits here
    rest -= rest.mean(-1, keepdims=True)
    number = np.array([len(one) for one in figures])
    images = rest @ rest.T / (n - 1) / n if n > 1 else np.zeros((len(means), len(means)))
    differ = significant(overall, images, max(n, 2), noise.variances / number, level, opened=opened)
    return differ & (overall[:, None] > overall)


def ranks(better: np.ndarray) -> list[tuple[int, int]]:
    """First and last possible rank of each variant, from the verdicts of `better` (m, m): 1 + better, m − worse ones.

    All intervals hold simultaneously at the level of `better`.

    >>> from vaebench.leaderboard.moderation import evidence, trainings
    >>> rng = np.random.default_rng(0)
    >>> image = rng.normal(size=1000)
    >>> figures = [image + rng.normal(mean, 0.1, (3, 1000)) for mean in (5.0, 3.0, 3.0)]
    >>> ranks(better(figures, trainings(evidence(figures))))
    [(1, 1), (2, 3), (2, 3)]
    """
    return [(1 + int(better[:, i].sum()), len(better) - int(better[i].sum())) for i in range(len(better))]
