"""Two-sample distances and tests with valid p-values.

Samples are (m, n), float64. A test's p-value is uniform, or larger, where the two distributions are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from vaebench.functional.regularisers import Kernel, similarity

KERNEL: Kernel = "imq"
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of Tolstikhin et al. 2018's code, https://arxiv.org/abs/1711.01558
ROWS = 8  # of the kernel matrix at a time, to fit a cache


class Verdict(NamedTuple):
    """The result of a two-sample test.

    Attributes:
        statistic: MMD² or the classifier's accuracy.
        p_value: probability of a statistic at least as large where the distributions are the same, in (0, 1].
        se: standard error of the statistic; for MMD², its standard deviation where the distributions are the same.
        n: number of samples of each kind, or of classified samples.
    """

    statistic: float
    p_value: float
    se: float
    n: int


def mmd_test(
    a: Tensor, b: Tensor, permutations: int, kernel: Kernel = KERNEL, scales: Sequence[float] = SCALES
) -> Verdict:
    """Unbiased MMD² between samples of equal number, with a permutation test.

    Gretton et al. 2012, section 2 and lemma 6, https://jmlr.org/papers/v13/gretton12a.html. With signs s, +1 for a and
    −1 for b, and the kernel matrix K without its diagonal, sᵀKs is the sums within less those between.

    Args:
        a, b: (m, n) each, m ≥ 2.
        permutations: random exchanges; no p-value is below 1 / (permutations + 1).
        kernel, scales: see `vaebench.functional.regularisers.similarity`.
    """
    m, pool = len(a), torch.cat([a, b])
    matrix = torch.cat([similarity(rows, pool, kernel, scales) for rows in pool.split(ROWS)]).fill_diagonal_(0)
    start = torch.ones(2 * m, dtype=pool.dtype, device=pool.device)
    start[m:] = -1
    signs = torch.stack([start] + [start[torch.randperm(2 * m, device=pool.device)] for _ in range(permutations)], 1)
    contrast, total = (signs * (matrix @ signs)).sum(0), matrix.sum()
    values = (total + contrast) / 2 / (m * (m - 1)) - (total - contrast) / 2 / m**2
    exceeding = int((values[1:] >= values[0] - 1e-12).sum())
    return Verdict(float(values[0]), (1 + exceeding) / (1 + permutations), float(values[1:].std()), m)


def classifier_test(a: Tensor, b: Tensor) -> Verdict:
    """Held-out accuracy of a k-nearest-neighbour classifier of the two samples; 1/2 at chance.

    It is trained on the first half of each sample and tested on the rest, with k = √(training samples), odd, by an
    exact one-sided binomial test. Lopez-Paz & Oquab 2017, https://arxiv.org/abs/1610.06545.

    Args:
        a, b: (m, n) each, in random order.
    """
    half = len(a) // 2
    labels = torch.arange(2).repeat_interleave(half).numpy()
    neighbours = int((2 * half) ** 0.5) // 2 * 2 + 1
    classifier = KNeighborsClassifier(neighbours).fit(torch.cat([a[:half], b[:half]]).cpu().numpy(), labels)
    right = classifier.predict(torch.cat([a[half : 2 * half], b[half : 2 * half]]).cpu().numpy()) == labels
    accuracy, count = float(right.mean()), len(labels)
    p_value = binomtest(int(right.sum()), count, 0.5, alternative="greater").pvalue
    return Verdict(accuracy, float(p_value), (accuracy * (1 - accuracy) / count) ** 0.5, count)


def share_below(values: Tensor, reference: Tensor, level: float) -> tuple[float, float]:
    """The share of values below the `level`-quantile of a reference, and its standard error.

    For equal distributions its expectation is `level`, up to 1/len(reference).

    Args:
        values: (m,).
        reference: (r,).
        level: in (0, 1).
    """
    threshold = torch.quantile(reference, level)
    share = float((values < threshold).double().mean())
    own, other = share * (1 - share) / len(values), level * (1 - level) / len(reference)
    return share, (own + other) ** 0.5
