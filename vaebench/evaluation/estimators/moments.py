"""Means and variances over images with their standard errors, computed at once or in batches."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Sums of powers of deviations from the mean over n images, float64 (units,).

    Attributes:
        n: number of images.
        mean: over the images.
        second: Σ (x − mean)².
        third: Σ (x − mean)³.
        fourth: Σ (x − mean)⁴.
    """

    n: Tensor
    mean: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """The moments of values (n, units), n ≥ 1."""
        values = values.double()
        mean = values.mean(0)
        deviations = values - mean
        return cls(torch.full_like(mean, len(values)), mean, *(deviations.pow(power).sum(0) for power in (2, 3, 4)))

    @classmethod
    def merged(cls, parts: Tensor) -> Moments:
        """The moments of all images, from the stacked moments of g batches, (g, 5, units)."""
        n, mean, second, third, fourth = parts.unbind(1)
        total = n.sum(0)
        centre = (n * mean).sum(0) / total
        d = mean - centre
        return cls(
            total,
            centre,
            (second + n * d**2).sum(0),
            (third + 3 * d * second + n * d**3).sum(0),
            (fourth + 4 * d * third + 6 * d**2 * second + n * d**4).sum(0),
        )

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over images; NaN for one image."""
        return self.second / (self.n - 1)

    @property
    def error(self) -> Tensor:
        """Standard error of the mean, sd/√n; NaN for one image."""
        return (self.variance / self.n).sqrt()

    @property
    def variance_error(self) -> Tensor:
        """Standard error of the variance, √((m₄ − s⁴ (n − 3)/(n − 1)) / n); NaN for one image."""
        spread = self.fourth / self.n - self.variance**2 * (self.n - 3) / (self.n - 1)
        return (spread.clamp(min=0) / self.n).sqrt()


def average(values: Tensor) -> tuple[float, float | None]:
    """Mean over images of values (n,), n ≥ 1, and its standard error sd/√n; None for one image."""
    values = values.double()
    return float(values.mean()), float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None


def count_error(distance: Tensor) -> Tensor:
    """Standard error of the number of estimates above their thresholds, for normal and independent errors.

    √Σ p (1 − p) with p = Φ(distance).

    Args:
        distance: estimate less threshold, in standard errors of the estimate, (units,).
    """
    p = torch.special.ndtr(distance.double())
    return (p * (1 - p)).sum().sqrt()
