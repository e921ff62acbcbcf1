"""DIP-VAE-II: the aggregate code is decorrelated."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.regularisers import covariance, off_identity


@final
class DIPVAEII(Family):
    r"""Disentangled inferred prior VAE, kind II: pulls the covariance of the aggregate posterior q(z) to the identity.

    .. math:: L(x) - \lambda_{od} \sum_{i \ne j} C_{ij}^2 - \lambda_d \sum_i (C_{ii} - 1)^2, \quad
              C = Cov_x[\mu(x)] + E_x[\mathrm{diag}\,\sigma(x)^2]

    By the law of total covariance C is that of z itself under q(z), here over the images of a batch, with 1/b. The ELBO
    L(x) is a mean over the images, the penalty one number of the batch.

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

    def __init__(self, data: DataSpec, off_diagonal: float = 10.0, diagonal: float = 10.0, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.require_units()
        self.hyper(off_diagonal=off_diagonal, diagonal=diagonal)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        spread = covariance(terms.q.mean) + terms.q.variance.mean(0).diag()  # of z ~ q(z), (latent, latent)
        penalty = off_identity(spread, self.off_diagonal, self.diagonal)
        return Step({"model": -terms.elbo.mean() + penalty}, terms.logs | {"penalty": penalty})
