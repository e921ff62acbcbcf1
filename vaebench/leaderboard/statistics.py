"""What a mean is worth: standard errors over seeds and over test images, paired differences, ranks with ties.

Two kinds of noise are kept apart. Over seeds: training again would give another model. Over test images: another test
set would give another mean. All runs of a board see the same images, so differences are taken image by image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # scipy.stats has the same quantile and takes a second to import

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A variant's mean of one metric, in the metric's unit.

    Attributes:
        mean: over seeds.
        seeds: number of seeds.
        over_seeds: standard error over seeds, sd / √seeds; None with one seed, which says nothing of training noise.
        interval: 95 % t-interval over seeds; None with one seed.
        over_images: standard error over test images: the mean of the runs' own. Averaging seeds does not shrink it,
            because every seed is measured on the same images. None where a run has none.
    """

    mean: float
    seeds: int
    over_seeds: float | None
    interval: tuple[float, float] | None
    over_images: float | None


def estimate(values: Sequence[float], image_errors: Sequence[float | None]) -> Estimate:
    """The mean over seeds of one metric, from each seed's value and its standard error over test images."""
    n, mean = len(values), float(np.mean(values))
    errors = [error for error in image_errors if error is not None]
    over_images = float(np.mean(errors)) if errors and len(errors) == len(image_errors) else None
    if n < 2:
        return Estimate(mean, n, None, None, over_images)
    over_seeds = float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean, n, over_seeds, _interval(mean, over_seeds, n - 1), over_images)


@dataclass(frozen=True)
class Comparison:
    """How much better one variant is than another, in the metric's unit.

    Attributes:
        difference: mean of the first less mean of the second.
        interval: 95 % interval of the difference.
        seeds_counted: whether the interval covers the noise over seeds. Where one variant has one seed, that of the
            other stands for both; where both have one, it is unknown, and the interval covers test images alone.
    """

    difference: float
    interval: tuple[float, float]
    seeds_counted: bool

    @property
    def tie(self) -> bool:
        """Whether the difference is inside the noise."""
        return self.interval[0] <= 0 <= self.interval[1]


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compares two variants on the same test images.

    The variance of the difference is that of the paired per-image differences (averaged over seeds) over n, plus each
    variant's variance over seeds over its number of seeds; the interval is Student's with Welch and Satterthwaite's
    degrees of freedom. Noise that differs from image to image and seed to seed is in both terms, so the interval is a
    little wide rather than narrow. It is not corrected for looking at many pairs.

    Args:
        first: one figure for each seed and image, (seeds, n), n ≥ 2.
        second: the same for the other variant, (seeds', n), images in the same order.

    Reference:
        Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28.
    """
    paired = first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64)  # (n,)
    over_seeds = _over_seeds(*(a.mean(1, dtype=np.float64) for a in (first, second)))
    parts = [(float(np.var(paired, ddof=1)) / len(paired), len(paired) - 1), *over_seeds]
    variance, mean = sum(v for v, _ in parts), float(paired.mean())
    satterthwaite = sum(v**2 / f for v, f in parts)
    freedom = variance**2 / satterthwaite if satterthwaite > 0 else math.inf
    return Comparison(mean, _interval(mean, math.sqrt(variance), freedom), bool(over_seeds))


def _over_seeds(first: np.ndarray, second: np.ndarray) -> list[tuple[float, int]]:
    """Variances, with their degrees of freedom, that add up to that of the difference of two means over seeds."""
    known = [(float(np.var(means, ddof=1)), len(means)) for means in (first, second) if len(means) > 1]
    if len(known) == 1:
        variance, n = known[0]
        return [(variance * (1 + 1 / n), n - 1)]
    return [(variance / n, n - 1) for variance, n in known]


def ranks(figures: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """First and last rank that each variant may hold: ranks differ only where the difference is outside the noise.

    Args:
        figures: (seeds, n) for each variant, higher is better.

    >>> rng = np.random.default_rng(0)
    >>> image = rng.normal(size=1000)
    >>> ranks([image + rng.normal(mean, 0.1, (3, 1000)) for mean in (5.0, 3.0, 3.0)])
    [(1, 1), (2, 3), (2, 3)]
    """
    better = np.zeros((len(figures), len(figures)), dtype=bool)
    for i, first in enumerate(figures):
        for j, second in enumerate(figures[:i]):
            result = compare(first, second)
            better[i, j], better[j, i] = result.interval[0] > 0, result.interval[1] < 0
    return [(1 + int(better[:, i].sum()), len(figures) - int(better[i].sum())) for i in range(len(figures))]


def _interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return mean - half, mean + half
