r"""Power of a comparison by numbers of seeds and images, from the noise in the records.

With S seeds each and n images, the difference of two means has the variance

.. math:: V = \frac{\tau^2}{n} + \sum_v \frac{\sigma_v^2 + \rho_v^2 / n}{S}

τ² is the variance over images of the paired difference, σ² the noise over trainings, and ρ² the image–seed interaction.
A difference is detected where its 95 % interval excludes 0. The power is that of Student's test with the degrees of
freedom of the future moderated noise, averaged over the posterior of σ² (`moderation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import nctdtr, polygamma, stdtrit

from vaebench.leaderboard.moderation import Trainings, evidence
from vaebench.leaderboard.noise import LEVEL, crossing

DRAWS = 400
LEAST, MOST = 2, 200  # seeds per variant
FAR = 30.0  # standard errors at which any difference is detected
LEAST_FREEDOM, MOST_FREEDOM = 0.5, 1e4


class Size(NamedTuple):
    """Size of a comparison: seeds per variant, and test images."""

    seeds: int
    images: int


@dataclass(frozen=True)
class Variation:
    """Components of a pair's error, variances in the squared unit of the metric; (2,) has one per variant.

    Attributes:
        images: τ², of the paired difference over images.
        rest: ρ², the image–seed interaction, (2,).
        trainings: draws of σ², (draws, 2).
        freedom: current degrees of freedom of σ², (2,).
        seeds: current number of seeds, (2,).
    """

    images: float
    rest: np.ndarray
    trainings: np.ndarray
    freedom: np.ndarray
    seeds: np.ndarray

    def error(self, size: Size) -> float:
        """The standard error of the difference, at the posterior median of σ²."""
        return float(np.sqrt(np.median(self._variance(size))))

    def power(self, difference: float, size: Size, level: float = LEVEL) -> float:
        """Probability of detecting the difference, in [0, 1].

        Args:
            difference: the true one, of either sign.
            size: seeds and images.
            level: of the interval that must exclude 0.
        """
        variance = self._variance(size)
        freedom = self._freedom(size)
        far = np.minimum(abs(difference) / np.sqrt(np.maximum(variance, np.finfo(float).tiny)), FAR)
        return float(np.mean(1 - nctdtr(freedom, far, stdtrit(freedom, (1 + level) / 2))))

    def detectable(self, size: Size, power: float, level: float = LEVEL) -> float:
        """The smallest difference that is detected with the given power."""
        low, high = 0.0, self.error(size)
        while self.power(high, size, level) < power:
            low, high = high, 2 * high
            if not np.isfinite(high) or high > 1e6 * self.error(size):
                return float("inf")
        return float(crossing(lambda difference: self.power(float(difference), size, level) - power, low, high))

    def seeds_for(self, difference: float, images: int, power: float, level: float = LEVEL) -> int | None:
        """The fewest seeds per variant that detect a difference with the given power; None where MOST are too few."""
        if self.power(difference, Size(MOST, images), level) < power:
            return None
        low, high = LEAST - 1, MOST
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if self.power(difference, Size(middle, images), level) >= power else (middle, high)
            )
        return high

    def _variance(self, size: Size) -> np.ndarray:
        own = self.trainings + self.rest / size.images
        return np.asarray(self.images / size.images + own.sum(1) / size.seeds)

    def _freedom(self, size: Size) -> float:
        """Satterthwaite's degrees of freedom of the images' part and the future noise over trainings."""
        known = np.clip(self.freedom + size.seeds - self.seeds, LEAST_FREEDOM, MOST_FREEDOM)
        parts = np.append(np.median(self.trainings, 0) + self.rest / size.images, 0) / size.seeds
        parts[-1] = self.images / size.images
        spread = (parts**2 / np.append(known, max(size.images - 1, 1))).sum()
        return float(parts.sum() ** 2 / spread) if spread else MOST_FREEDOM


def variation(first: np.ndarray, second: np.ndarray, noise: Trainings) -> Variation:
    """The components of a difference's error.

    Args:
        first, second: values (seeds, n) of the two on the same images; with n = 1, one value per run.
        noise: over their trainings, two columns.
    """
    number, n = np.array([len(first), len(second)]), first.shape[-1]
    rest = evidence([first, second]).chance * n
    paired = first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64)
    images = max(float(paired.var(ddof=1)) - float((rest / number).sum()), 0.0) if n > 1 else 0.0
    return Variation(images, rest, noise.variances[:DRAWS], freedom(noise.variances), number)


def assumed(first: np.ndarray, second: np.ndarray, deviation: float) -> Variation:
    """The components with an assumed standard deviation over trainings."""
    noise = Trainings(np.full((DRAWS, 2), deviation**2), np.ones(2, dtype=bool))
    return replace(variation(first, second, noise), freedom=np.zeros(2), seeds=np.ones(2))


def freedom(variances: np.ndarray) -> np.ndarray:
    r"""Degrees of freedom of variances from draws of their posterior, (draws, m) -> (m,).

    Those of the scaled inverse chi-square distribution with the same variance of the logarithm:
    :math:`\mathrm{var} \log \sigma^2 = \psi'(d / 2)`.
    """
    scatter = np.log(np.maximum(variances, np.finfo(float).tiny)).var(0)
    low, high = np.full(scatter.shape, LEAST_FREEDOM), np.full(scatter.shape, MOST_FREEDOM)
    for _ in range(60):
        middle = np.sqrt(low * high)
        more = polygamma(1, middle / 2) > scatter
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return high
