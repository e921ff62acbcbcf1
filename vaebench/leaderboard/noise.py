"""Where the error of a mean comes from: from the training seeds, or from the test images.

A figure of seed s and image i is a mean, what the image adds, what the training adds, and a rest that changes with
both. Images and seeds are both samples: another test set and another training would give another mean. So the squared
standard error has two parts, known with very different certainty: thousands of images, and often three seeds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats has the same functions and takes a second to import

LEVEL = 0.95


class Noise(NamedTuple):
    """The squared standard error of a mean or a difference, by where it comes from; arrays of any one shape.

    The error in units of its estimated size is taken to follow Student's t with `image_freedom` degrees of freedom in
    the images' share of the variance, and with `seed_freedom` in the seeds' share: a mixture of the two.
    Satterthwaite's single t for both is sharper, but with three seeds its degrees of freedom grow just where chance
    made the seeds' variance small; many comparisons find such cases (docs/comparison.md has the figures).
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

        A mixture's quantile lies between those of its parts, and bisection finds it.
        """
        wanted = (1 - level) / 2
        quantiles = np.stack([stdtrit(f + 0 * self.images, 1 - wanted) for f in self[2:]]) * self.error
        low, high = quantiles.min(0), quantiles.max(0)
        for _ in range(50):
            middle = (low + high) / 2
            outside = self.below(-middle) < wanted
            low, high = np.where(outside, low, middle), np.where(outside, middle, high)
        return high


class Drawn(NamedTuple):
    """The noise of a difference whose variance over seeds is known by draws from its posterior (`moderation.py`).

    The error is normal for each drawn variance, or Student's where the images' variance, known with n − 1 degrees of
    freedom, is most of it; the draws mix these. A p-value is then as often small as it says, on the average over boards
    whose noise follows the model.

    images: its squared standard error over images. freedom: n − 1. seeds: that over seeds, (draws,), ascending.
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
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p(middle) > 1 - level else (low, middle)
        return high


class Seeds(NamedTuple):
    """What seeds add to the squared standard error of a mean; arrays of any one shape.

    raw: variance of the seeds' means over their number, with what images and chance add to it. net: without that, ≥ 0.
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
    """What noise that changes with image and seed adds to the variance of seeds' means; of (..., seeds ≥ 2, n).

    With n = 1, a figure of the run, there are no images that it could change with: 0.
    """
    number, n = figures.shape[-2:]
    if n == 1:
        return np.zeros(figures.shape[:-2])
    rest = figures - figures.mean(-1, dtype=np.float64, keepdims=True)
    rest -= rest.mean(-2, keepdims=True)
    return np.asarray((rest**2).sum((-1, -2)) / ((number - 1) * (n - 1)) / n)


def of_mean(figures: np.ndarray) -> Noise:
    """The noise of the mean of figures (..., seeds, n); with one seed that of the images alone, with n = 1 of seeds."""
    n, part = figures.shape[-1], seeds(figures)
    images = figures.mean(-2, dtype=np.float64).var(-1, ddof=1) / n if n > 1 else np.zeros(figures.shape[:-2])
    return Noise(images, np.nan_to_num(part.net), max(n - 1, 1) + 0 * images, np.maximum(part.number - 1, 1))


def of_difference(images: np.ndarray, n: int, first: Seeds, second: Seeds) -> Noise:
    """The noise of the difference of two variants' means.

    Args:
        images: variance of the paired per-image differences (averaged over seeds) over n.
        n: number of images.
        first, second: what seeds add to each. Of a variant with one seed that is unknown: the other's variance over
            seeds stands for both, whole; where both have one seed, none is counted.

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
