"""DIP-VAE-I: the posterior means are decorrelated."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.regularisers import covariance, off_identity


@final
class DIPVAEI(Family):
    r"""Disentangled inferred prior VAE, kind I: pulls the covariance of the posterior means to the identity.

    .. math:: L(x) - \lambda_{od} \sum_{i \ne j} C_{ij}^2 - \lambda_d \sum_i (C_{ii} - 1)^2, \quad
              C = Cov_x[\mu(x)]

    The covariance is over the images of a batch, with 1/b. It leaves out the noise of q, so that the variances of q(z)
    may exceed 1 by E[σ²]; DIP-VAE-II counts it. The ELBO L(x) is a mean over the images, the penalty one number of the
    batch.

    Reference:
        Kumar, Sattigeri & Balakrishnan 2018, https://arxiv.org/abs/1711.00848.

    Args:
        data: shape, measure and mean of the images.
        off_diagonal: λ_od ≥ 0.
        diagonal: λ_d ≥ 0.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`. q needs a mean in closed form.
    """

    NEUTRAL = {"off_diagonal": 0.0, "diagonal": 0.0}

    off_diagonal: Tensor
    diagonal: Tensor

    def __init__(self, data: DataSpec, off_diagonal: float = 10.0, diagonal: float = 100.0, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.require_units()
        self.hyper(off_diagonal=off_diagonal, diagonal=diagonal)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        penalty = off_identity(covariance(terms.q.mean), self.off_diagonal, self.diagonal)
        return Step({"model": -terms.elbo.mean() + penalty}, terms.logs | {"penalty": penalty})
