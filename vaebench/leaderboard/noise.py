"""Components of the error of a mean: training seeds and test images.

The value of seed s and image i is a mean, an image effect, a seed effect and their interaction. Images and seeds are
both samples: another test set or another training would give another mean. So the squared standard error has two parts,
known with very different precision: from thousands of images, and often from three seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit  # scipy.stats has the same functions and takes a second to import

LEVEL = 0.95
STEPS, CLOSE = 60, 1e-13  # of a search; ten are usual. The distance from 0 at which it ends


def crossing(function: Callable[[np.ndarray], Any], low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Where rising functions cross 0 between `low` and `high`, each by itself: regula falsi, in the Illinois version.

    Reference:
        Dowell and Jarratt 1971, https://doi.org/10.1007/BF01934364.
    """
    ends = np.array(np.broadcast_arrays(low, high), dtype=float)
    values = np.array([function(end) for end in ends])
    middle, last = ends[1], np.full(ends[1].shape, -1)
    for _ in range(STEPS):
        rise = values[1] - values[0]
        middle = ends[0] - values[0] * np.divide(ends[1] - ends[0], rise, out=np.zeros_like(rise), where=rise > 0)
        value = np.asarray(function(middle))
        if not (np.abs(value) > CLOSE).any() or not (ends[1] > ends[0]).any():
            break
        side = (value > 0).astype(int)  # the end that moves; the value at one that stays twice counts half
        for end in (0, 1):
            moves = side == end
            ends[end] = np.where(moves, middle, ends[end])
            values[end] = np.where(moves, value, np.where(last == side, values[end] / 2, values[end]))
        last = side
    return middle


class Noise(NamedTuple):
    """The squared standard error of a mean or a difference by component; arrays of any one shape.

    The standardised error follows a mixture of two Student's t distributions: with `image_freedom` degrees of freedom,
    weighted by the images' share of the variance, and with `seed_freedom`, weighted by the seeds' share.
    Satterthwaite's single t is sharper, but with three seeds its degrees of freedom grow exactly where the seeds'
    variance is small by chance, and many comparisons select for such cases (docs/comparison.md).
    """

    images: np.ndarray
    seeds: np.ndarray
    image_freedom: np.ndarray
    seed_freedom: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """The standard error."""
        return np.sqrt(self.images + self.seeds)

    def below(self, error: np.ndarray) -> np.ndarray:
        """Probability that the true value lies less than `error` above the estimate; in (0, 1)."""
        variance = self.images + self.seeds
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.where(error == 0, 0.0, error / np.sqrt(variance))
            share = np.where(variance > 0, self.seeds / variance, 0.0)
        return (1 - share) * stdtr(self.image_freedom, units) + share * stdtr(self.seed_freedom, units)

    def p(self, difference: np.ndarray) -> np.ndarray:
        """Two-sided p-value of the hypothesis that the true difference is 0; in [0, 1]."""
        return 2 * self.below(-np.abs(difference))

    def half_width(self, level: float = LEVEL) -> np.ndarray:
        """Half the width of the interval that holds all values with p ≥ 1 − level.

        A mixture's quantile lies between those of its components.
        """
        quantiles = np.stack([stdtrit(f + 0 * self.images, (1 + level) / 2) for f in self[2:]]) * self.error
        return crossing(lambda error: self.below(error) - (1 + level) / 2, quantiles.min(0), quantiles.max(0))


class Drawn(NamedTuple):
    """The noise of a difference whose variance over seeds has posterior draws (`moderation.py`).

    The error is a mixture over the draws: normal for each drawn variance, or Student's t where the images' variance,
    with n − 1 degrees of freedom, dominates. P-values are calibrated on average over boards whose noise follows the
    model.

    images: squared standard error over images. freedom: n − 1. seeds: the same over seeds, (draws,), ascending.
    """

    images: float
    freedom: int
    seeds: np.ndarray

    def below(self, error: float) -> float:
        """Probability that the true value lies less than `error` above the estimate; in (0, 1)."""
        variance = self.images + self.seeds
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = self.freedom * np.where(self.images > 0, (variance / self.images) ** 2, np.inf)
            units = error / np.sqrt(variance) if error else np.zeros_like(variance)
        return float(stdtr(np.minimum(freedom, 1e9), units).mean())

    def p(self, difference: float) -> float:
        """Two-sided p-value of the hypothesis that the true difference is 0; in [0, 1]."""
        return 2 * self.below(-abs(difference))

    def half_width(self, level: float = LEVEL) -> float:
        """Half the width of the interval that holds all values with p ≥ 1 − level."""
        low, high = 0.0, float(np.sqrt(self.images + self.seeds.max()))
        while high and self.p(high) > 1 - level:
            low, high = high, 2 * high
        return float(crossing(lambda error: self.below(float(error)) - (1 + level) / 2, low, high))


class Seeds(NamedTuple):
    """The seeds' part of the squared standard error of a mean; arrays of any one shape.

    raw: variance of the seeds' means over their number, including the interaction with images. net: without it, ≥ 0.
    number: of seeds. With one seed, raw and net are NaN.
    """

    raw: np.ndarray
    net: np.ndarray
    number: np.ndarray


def seeds(figures: np.ndarray) -> Seeds:
    r"""Analysis of variance of figures (..., seeds, n).

    .. math:: \text{raw} = \frac{\mathrm{var}_s(\bar y_{s\cdot})}{S}, \quad
        \text{net} = \max\Bigl(0, \text{raw} - \frac{1}{nS} \sum_{si}
        \frac{(y_{si} - \bar y_{s\cdot} - \bar y_{\cdot i} + \bar y)^2}{(S - 1)(n - 1)}\Bigr)

    What changes with image and seed is in the images' part of the error already, and must not count twice.

    Reference:
        Searle, Casella and McCulloch, Variance Components, chapter 4, https://doi.org/10.1002/9780470316856.
    """
    *shape, number, _ = figures.shape
    if number == 1:
        return Seeds(np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, 1.0))
    raw = figures.mean(-1, dtype=np.float64).var(-1, ddof=1) / number
    return Seeds(raw, np.maximum(raw - chance(figures) / number, 0), np.full(shape, float(number)))


def chance(figures: np.ndarray) -> np.ndarray:
    """Contribution of the image–seed interaction to the variance of seeds' means; values (..., seeds ≥ 2, n).

    It is 0 for n = 1, a single value per run.
    """
    number, n = figures.shape[-2:]
    if n == 1:
        return np.zeros(figures.shape[:-2])
    rest = figures - figures.mean(-1, dtype=np.float64, keepdims=True)
    rest -= rest.mean(-2, keepdims=True)
    return np.asarray((rest**2).sum((-1, -2)) / ((number - 1) * (n - 1)) / n)


def of_mean(figures: np.ndarray) -> Noise:
    """The noise of the mean of values (..., seeds, n): of images alone with one seed, of seeds alone with n = 1."""
    n, part = figures.shape[-1], seeds(figures)
    images = figures.mean(-2, dtype=np.float64).var(-1, ddof=1) / n if n > 1 else np.zeros(figures.shape[:-2])
    return Noise(images, np.nan_to_num(part.net), max(n - 1, 1) + 0 * images, np.maximum(part.number - 1, 1))


def of_difference(images: np.ndarray, n: int, first: Seeds, second: Seeds) -> Noise:
    """The noise of the difference of two variants' means.

    Args:
        images: variance of the paired per-image differences (averaged over seeds) over n.
        n: number of images.
        first, second: the seeds' part of each. A variant with one seed uses the other's raw variance; where both have
            one seed, the part is 0.

    Reference:
        Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28, for the degrees of freedom of two variances over seeds.
    """
    raws, nets, freedoms = [], [], []
    for one, other in ((first, second), (second, first)):
        alone = np.isnan(other.raw)
        raw = np.nan_to_num(np.where(alone, one.raw * (1 + one.number), one.raw))
        raws.append(raw)
        nets.append(np.nan_to_num(np.where(alone, raw, one.net)))
        freedoms.append(np.maximum(one.number - 1, 1))
    total, spread = sum(raws), sum(raw**2 / freedom for raw, freedom in zip(raws, freedoms, strict=True))
    freedom = np.divide(total**2, spread, out=np.ones_like(total + images), where=spread > 0)
    return Noise(images, sum(nets) + 0 * images, n - 1 + 0 * images, freedom)
