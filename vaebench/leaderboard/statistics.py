"""What a mean is worth: intervals over seeds and test images, paired differences, probabilities of improvement.

All runs of a board see the same images, so differences are taken image by image. Where the noise comes from stands in
`noise.py`; why the intervals are as they are, in docs/comparison.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vaebench.leaderboard.noise import Noise, Seeds, of_difference, seeds

Covers = Literal["seeds and images", "seeds", "images"]


@dataclass(frozen=True)
class Estimate:
    """A variant's mean of one metric, in the metric's unit.

    Attributes:
        mean: over seeds.
        seeds: number of seeds.
        over_seeds: standard error over seeds, sd / √seeds; None with one seed, which says nothing of training noise.
        over_images: standard error over test images: the mean of the runs' own. Averaging seeds does not shrink it,
            because every seed is measured on the same images. None where a run has none.
        interval: 95 % interval of the mean; None where there is neither error.
        covers: which noise the interval covers; None without interval.
    """

    mean: float
    seeds: int
    over_seeds: float | None
    over_images: float | None
    interval: tuple[float, float] | None
    covers: Covers | None


def estimate(values: Sequence[float], image_errors: Sequence[float | None], images: int | None = None) -> Estimate:
    """The mean over seeds of one metric, from each seed's value and its standard error over test images.

    Noise that differs from image to image and seed to seed is in both errors, so the interval is a little wide.

    Args:
        values: one a seed. image_errors: one a run.
        images: number of test images; None: many.
    """
    n, mean = len(values), float(np.mean(values))
    errors = [error for error in image_errors if error is not None]
    over_images = float(np.mean(errors)) if errors and len(errors) == len(image_errors) else None
    over_seeds = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
    if over_images is None and over_seeds is None:
        return Estimate(mean, n, None, None, None, None)
    covers: Covers = "images" if over_seeds is None else "seeds" if over_images is None else "seeds and images"
    parts = ((over_images or 0) ** 2, (over_seeds or 0) ** 2, math.inf if images is None else images - 1, max(n - 1, 1))
    half = float(Noise(*map(np.asarray, parts)).half_width())
    return Estimate(mean, n, over_seeds, over_images, (mean - half, mean + half), covers)


@dataclass(frozen=True)
class Comparison:
    """How much higher one variant scores than another, in the metric's unit.

    Attributes:
        difference: mean of the first less mean of the second.
        interval: 95 % interval of the difference.
        p: two-sided p-value of no difference; below 0.05 where the interval does not hold 0.
        seeds_counted: whether the interval covers the noise over seeds. Where one variant has one seed, that of the
            other stands for both; where both have one, it is unknown, and the interval covers test images alone.
        over_images, over_seeds: standard errors of the difference; the second is None where it is unknown.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    seeds_counted: bool
    over_images: float
    over_seeds: float | None

    @property
    def tie(self) -> bool:
        """Whether the difference is inside the noise."""
        return self.interval[0] <= 0 <= self.interval[1]


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compares two variants on the same test images.

    Not corrected for looking at many pairs: `ranking.py` does that. Seeds are not paired, equal numbers or not: it
    would halve the degrees of freedom, and a seed's number is all that two trainings of different models are known to
    share.

    Args:
        first: one figure for each seed and image, (seeds, n), n ≥ 2.
        second: the same for the other variant, (seeds', n), images in the same order.
    """
    difference, noise = compared(first, second)
    counted = max(len(first), len(second)) > 1
    half, mean = float(noise.half_width()), float(difference)
    over_seeds = math.sqrt(float(noise.seeds)) if counted else None
    interval = (mean - half, mean + half)
    return Comparison(mean, interval, float(noise.p(difference)), counted, math.sqrt(float(noise.images)), over_seeds)


def compared(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, Noise]:
    """Differences of means (...) and their noise, of figures (..., seeds, n) and (..., seeds', n)."""
    paired = first.mean(-2, dtype=np.float64) - second.mean(-2, dtype=np.float64)  # (..., n)
    n = paired.shape[-1]
    return paired.mean(-1), of_difference(paired.var(-1, ddof=1) / n, n, seeds(first), seeds(second))


@dataclass(frozen=True)
class Probability:
    """A probability in [0, 1] and its 95 % interval; no interval where there is no model for one."""

    value: float
    interval: tuple[float, float] | None = None


def on_a_fresh_image(first: np.ndarray, second: np.ndarray) -> Probability:
    r"""How probably the first scores higher on one test image that nobody has seen, with one fresh training of each.

    .. math:: P(y_A > y_B) + \tfrac12 P(y_A = y_B)

    estimated over all pairs of seeds on every image: a Mann–Whitney statistic. Its noise is that of its projections on
    images and on each variant's seeds, as DeLong et al. have it, split as that of a mean is. With one seed of each, the
    trainings are these two, and the interval covers images alone.

    Args:
        first, second: as `compare` takes them.

    Reference:
        DeLong et al. 1988, https://doi.org/10.2307/2531595. Agarwal et al. 2021 (rliable) define the probability of
        improvement over tasks and runs, https://arxiv.org/abs/2108.13264; here images take the place of tasks.
    """
    value, noise = wins(first, second)
    half = float(noise.half_width())
    return Probability(float(value), (max(0.0, float(value) - half), min(1.0, float(value) + half)))


def wins(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, Noise]:
    """Share of (seed, seed', image) triples that the first wins, (...), and its noise; figures (..., seeds, n)."""
    pairs = first[..., :, None, :], second[..., None, :, :]
    won = np.greater(*pairs) + 0.5 * np.equal(*pairs)  # (..., seeds, seeds', n)
    images, n = won.mean((-3, -2)), won.shape[-1]
    parts: list[Seeds] = [seeds(won.mean(axis)) for axis in (-2, -3)]
    return images.mean(-1), of_difference(images.var(-1, ddof=1) / n, n, *parts)


def after_fresh_trainings(first: np.ndarray, second: np.ndarray) -> Probability | None:
    """How probably a fresh training of the first beats one of the second in the mean over all images.

    The predictive probability: the difference of two fresh trainings has the estimated difference as its centre, and as
    its variance the estimate's and that of one training of each. None where one variant has a single seed.

    Args:
        first, second: as `compare` takes them.
    """
    if min(len(first), len(second)) < 2:
        return None
    return Probability(float(1 - predictive(first, second)))


def predictive(first: np.ndarray, second: np.ndarray, value: float | np.ndarray = 0.0) -> np.ndarray:
    """Probability (...) that the difference of two fresh trainings is below `value`; figures (..., seeds ≥ 2, n)."""
    difference, noise = compared(first, second)
    fresh = sum(part.net * part.number for part in map(seeds, (first, second)))
    return noise._replace(seeds=noise.seeds + fresh).below(value - difference)
