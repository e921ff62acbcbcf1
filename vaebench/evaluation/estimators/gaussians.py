"""Gaussians of full covariance, one per image, in float64."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.evaluation.conditions import start_noise

LEAST = 0.05  # smallest eigenvalue of a precision; the prior's noise has precision 1
WIDER = 0.3  # relative widening where the image determines ε, for lighter tails of the weights


class Gaussians(NamedTuple):
    """q*(ε) = N(m, L Lᵀ) of each of b images, float64.

    Attributes:
        mean: m, (b, d).
        factor: L, lower triangular, (b, d, d).
    """

    mean: Tensor
    factor: Tensor

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Samples ε = m + L u of u ~ N(0, I), (s, b, d) float64, and log q*(ε), nats, (s, b)."""
        return self.mean + torch.einsum("bij,sbj->sbi", self.factor, noise), self._density(noise)

    def log_prob(self, noise: Tensor) -> Tensor:
        """log q*(ε), nats, of ε (s, b, d): (s, b)."""
        return self._density(self.to_noise(noise))

    def to_noise(self, noise: Tensor) -> Tensor:
        """u (s, b, d) of ε (s, b, d)."""
        away = (noise.double() - self.mean).movedim(0, -1)
        return torch.linalg.solve_triangular(self.factor, away, upper=False).movedim(-1, 0)

    def only(self, index: Tensor) -> Gaussians:
        """Those of some images, by their places (m,)."""
        return Gaussians(self.mean[index], self.factor[index])

    def _density(self, u: Tensor) -> Tensor:
        volume = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -(u.square().sum(-1) + math.log(2 * math.pi) * u.shape[-1]) / 2 - volume


def inverse_factor(precision: Tensor) -> Tensor:
    """Lower triangular L with L Lᵀ = P⁻¹ of symmetric P (b, d, d), made positive definite where it is not."""
    upper, failed = torch.linalg.cholesky_ex(precision.flip(-1, -2))
    if bool(failed.any()):
        values, axes = torch.linalg.eigh(precision.nan_to_num(0, 0, 0))
        mended = (axes * values.abs().clamp(min=LEAST)[:, None]) @ axes.mT
        precision = torch.where((failed != 0)[:, None, None], mended, precision)
        upper = torch.linalg.cholesky(precision.flip(-1, -2))
    eye = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(upper.flip(-1, -2), eye.expand_as(precision), upper=True).mT


def widened(factor: Tensor) -> Tensor:
    """The factor of a wider S, like `factor`: in its axes each deviation s becomes s (1 + 0.3 (1 − min(s², 1)))."""
    variances, axes = torch.linalg.eigh(factor @ factor.mT)
    deviations = variances.clamp(min=1e-12).sqrt() * (1 + WIDER * (1 - variances.clamp(max=1)))
    return torch.linalg.cholesky((axes * deviations.square()[:, None]) @ axes.mT)


def normal(key: bytes, stream: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal noise, drawn in float64 so that it is the same for a model in single precision."""
    start_noise(key, stream, like.device)
    return torch.randn(shape, dtype=torch.float64, device=like.device)
