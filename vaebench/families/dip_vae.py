"""DIP-VAE: the aggregate code is decorrelated."""

from __future__ import annotations

from typing import Any, Literal, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.regularisers import covariance, off_identity


@final
class DIPVAE(Family):
    r"""Disentangled inferred prior VAE: pulls a covariance C of the code to the identity.

    .. math:: L(x) - \lambda_{od} \sum_{i \ne j} C_{ij}^2 - \lambda_d \sum_i (C_{ii} - 1)^2

    .. math:: \text{I: } C = Cov_x[\mu(x)], \qquad \text{II: } C = Cov_x[\mu(x)] + E_x[\mathrm{diag}\,\sigma(x)^2]

    C is over the images of a batch, with 1/b. Kind I leaves out the noise of q, so that the variances of q(z) may
    exceed 1 by E[σ²]; by the law of total covariance kind II's C is that of z itself under q(z). The ELBO L(x) is a
    mean over the images, the penalty one number of the batch. The ELBO at λ_od = λ_d = 0. Nats per image.

    Reference:
        Kumar, Sattigeri & Balakrishnan 2018, https://arxiv.org/abs/1711.00848.

    Args:
        data: shape, measure and mean of the images.
        kind: 'I', the posterior means, or 'II', the aggregate posterior.
        off_diagonal: λ_od ≥ 0.
        diagonal: λ_d ≥ 0.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`. q needs a mean in closed form.
    """

    NEUTRAL = {"off_diagonal": 0.0, "diagonal": 0.0}

    off_diagonal: Tensor
    diagonal: Tensor

    def __init__(
        self,
        data: DataSpec,
        kind: Literal["I", "II"] = "I",
        off_diagonal: float = 10.0,
        diagonal: float = 100.0,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.require_units()
        self.kind = kind
        self.hyper(off_diagonal=off_diagonal, diagonal=diagonal)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        spread = covariance(terms.q.mean)  # (latent, latent)
        if self.kind == "II":
            spread = spread + terms.q.variance.mean(0).diag()
        penalty = off_identity(spread, self.off_diagonal, self.diagonal)
        return Step({"model": -terms.elbo.mean() + penalty}, terms.logs | {"penalty": penalty})
