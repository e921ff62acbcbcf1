"""Intervals over seeds and test images, paired differences, and probabilities of improvement.

All runs of a board have the same images, so differences are paired by image. `noise.py` and `moderation.py` model the
noise; docs/comparison.md motivates the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vaebench.leaderboard.moderation import Trainings, evidence, trainings
from vaebench.leaderboard.noise import Drawn, Noise, Seeds, of_difference, seeds

NORMAL = 1.959964  # 97.5 % quantile of the normal distribution
STEPS = 400
Covers = Literal["seeds and images", "seeds", "images"]


@dataclass(frozen=True)
class Estimate:
    """A variant's mean of one metric, in the metric's unit.

    Attributes:
        mean: over seeds.
        seeds: number of seeds.
        over_seeds: standard error over seeds, sd / √seeds; None with one seed.
        over_images: standard error over test images, the mean over the runs; averaging seeds does not reduce it, since
            they share the images. None where a run has none.
        interval: 95 % interval of the mean; None without either error.
        covers: noise that the interval covers; None without an interval.
    """

    mean: float
    seeds: int
    over_seeds: float | None
    over_images: float | None
    interval: tuple[float, float] | None
    covers: Covers | None


def estimate(values: Sequence[float], image_errors: Sequence[float | None], images: int | None = None) -> Estimate:
    """The mean over seeds of one metric, from each seed's value and its standard error over test images.

    The image–seed interaction is in both errors, so the interval is slightly conservative.

    Args:
        values: one per seed. image_errors: one per run.
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
    """The difference of two variants' scores, in the metric's unit.

    Attributes:
        difference: mean of the first minus mean of the second.
        interval: 95 % interval of the difference.
        p: two-sided p-value of no difference; below 0.05 where the interval excludes 0.
        over_images, over_seeds: standard errors of the difference (over seeds, the posterior median); the second is
            None where the noise over trainings is unknown, and the interval then covers images alone.
        turns: in that case, the standard deviation over trainings, equal for both, at which the interval would include
            0; None where it already does.
        opened: widening of either side of the interval for the estimator.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    over_images: float
    over_seeds: float | None
    turns: float | None = None
    opened: float = 0.0

    @property
    def provisional(self) -> bool:
        """Whether the verdict holds for these trainings only."""
        return self.over_seeds is None

    @property
    def tie(self) -> bool:
        """Whether the difference is inside the noise."""
        return self.interval[0] <= 0 <= self.interval[1]


def compare(first: np.ndarray, second: np.ndarray, noise: Trainings | None = None, opened: float = 0.0) -> Comparison:
    """Compares two variants on the same test images.

    There is no correction for multiple comparisons; see `ranking.py`. Seeds are not paired: pairing would halve the
    degrees of freedom, and trainings of different models have nothing in common but the seed's number.

    Args:
        first: one value for each seed and image, (seeds, n), n ≥ 2; or for each seed, (seeds, 1), where there are no
            per-image values, and the noise is over seeds alone.
        second: the same for the other variant, (seeds', n), images in the same order.
        noise: over trainings of the two, two columns, from their board; None estimates it from these values alone.
        opened: possible change of the difference by the estimator, which widens the interval (`trust.py`).
    """
    paired, noise = _paired(first, second), _noise(first, second, noise)
    difference, known = float(paired.mean()), bool(noise.known.all())
    drawn = _drawn(paired, noise.variances / (len(first), len(second)) if known else np.zeros((1, 2)))
    half, beyond = drawn.half_width() + opened, max(abs(difference) - opened, 0.0)
    interval = (difference - half, difference + half)
    comparison = Comparison(difference, interval, drawn.p(beyond), math.sqrt(drawn.images), None, opened=opened)
    if known:
        return replace(comparison, over_seeds=float(np.sqrt(np.median(drawn.seeds))))
    spare = (beyond / NORMAL) ** 2 - drawn.images
    if comparison.tie:
        return comparison
    return replace(comparison, turns=math.sqrt(spare / (1 / len(first) + 1 / len(second))))


def _paired(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64))


def _noise(first: np.ndarray, second: np.ndarray, noise: Trainings | None) -> Trainings:
    return trainings(evidence([first, second])) if noise is None else noise


def _drawn(paired: np.ndarray, variances: np.ndarray) -> Drawn:
    """The noise of paired differences (n,), with draws (draws, 2) of the variances of both means over seeds."""
    seeds = np.sort(variances.sum(1))
    if len(seeds) > STEPS:  # means over equal parts of the draws are as accurate, and ten times faster
        seeds = np.array([part.mean() for part in np.array_split(seeds, STEPS)])
    if len(paired) == 1:
        return Drawn(0.0, 1, seeds)
    return Drawn(float(paired.var(ddof=1)) / len(paired), len(paired) - 1, seeds)


@dataclass(frozen=True)
class Probability:
    """A probability in [0, 1] and its 95 % interval, if there is one."""

    value: float
    interval: tuple[float, float] | None = None


def on_a_fresh_image(first: np.ndarray, second: np.ndarray) -> Probability:
    r"""Probability that the first scores higher on a new test image, with one new training of each.

    .. math:: P(y_A > y_B) + \tfrac12 P(y_A = y_B)

    estimated over all pairs of seeds on every image: a Mann–Whitney statistic. Its noise is that of its projections on
    images and on each variant's seeds, as in DeLong et al., split like that of a mean. With one seed of each, the
    interval covers images alone.

    Args:
        first, second: as in `compare`.

    Reference:
        DeLong et al. 1988, https://doi.org/10.2307/2531595. Agarwal et al. 2021 (rliable) define the probability of
        improvement over tasks and runs, https://arxiv.org/abs/2108.13264; here images replace tasks.
    """
    value, noise = wins(first, second)
    return Probability(
        float(value), wilson(float(value), float(noise.error), float(noise.half_width()), first.shape[-1])
    )


def wilson(value: float, error: float, half_width: float, n: int) -> tuple[float, float]:
    r"""Wilson's interval of a probability, which lies in [0, 1] and has positive width even where all n images agree.

    .. math:: \frac{p + z^2 / 2m \pm z \sqrt{p (1 - p) / m + z^2 / 4m^2}}{1 + z^2 / m}, \qquad
        m = \frac{p (1 - p)}{\mathrm{error}^2}

    m is the effective number of independent images, n where the standard error is 0; z is the half width of the normal
    interval in standard errors.

    Reference:
        Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    spread = value * (1 - value)
    m, z = (spread / error**2, half_width / error) if error > 0 and spread > 0 else (float(n), NORMAL)
    centre, half = value + z**2 / (2 * m), z * math.sqrt(spread / m + (z / (2 * m)) ** 2)
    return max(0.0, (centre - half) / (1 + z**2 / m)), min(1.0, (centre + half) / (1 + z**2 / m))


def wins(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, Noise]:
    """Share of (seed, seed', image) triples that the first wins, (...), and its noise; figures (..., seeds, n)."""
    pairs = first[..., :, None, :], second[..., None, :, :]
    won = np.greater(*pairs) + 0.5 * np.equal(*pairs)  # (..., seeds, seeds', n)
    images, n = won.mean((-3, -2)), won.shape[-1]
    parts: list[Seeds] = [seeds(won.mean(axis)) for axis in (-2, -3)]
    return images.mean(-1), of_difference(images.var(-1, ddof=1) / n, n, *parts)


def after_fresh_trainings(first: np.ndarray, second: np.ndarray, noise: Trainings | None = None) -> Probability | None:
    """Probability that a new training of the first beats one of the second in the mean over all images.

    The predictive distribution of the difference of two new trainings is centred at the estimated difference; its
    variance is that of the estimate plus that of one training of each. None where the noise is unknown.

    Args:
        first, second, noise: as in `compare`.
    """
    noise = _noise(first, second, noise)
    return Probability(1 - predictive(first, second, noise)) if noise.known.all() else None


def predictive(first: np.ndarray, second: np.ndarray, noise: Trainings, value: float = 0.0) -> float:
    """Probability that the difference of two new trainings is below `value`; arguments as in `compare`."""
    paired = _paired(first, second)
    fresh = noise.variances * (1 + 1 / np.array([len(first), len(second)]))
    return _drawn(paired, fresh).below(value - float(paired.mean()))


def carried(first: np.ndarray, second: np.ndarray) -> tuple[int, float, float]:
    """The image with the largest share of the variance of the paired differences, that share, and their trimmed mean.

    Where one image has more than a tenth of the variance, the mean without the extreme tenth of images on either side
    is a robust check.
    """
    paired = _paired(first, second)
    squares = (paired - paired.mean()) ** 2
    most, ordered, cut = int(squares.argmax()), np.sort(paired), len(paired) // 10
    share = float(squares[most] / squares.sum()) if squares.any() else 0.0
    return most, share, float(ordered[cut : len(ordered) - cut].mean())
