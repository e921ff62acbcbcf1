"""InfoVAE, and MMD-VAE: the aggregate code is matched to the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.regularisers import Kernel, mmd
from vaebench.ranges import POSITIVE, Range


@final
class InfoVAE(Family):
    r"""InfoVAE: part of the rate is replaced by a discrepancy between the aggregate code and the prior.

    .. math:: E_q[\log p(x|z)] - (1 - \alpha)\,KL(q(z|x) \| p(z)) - (\alpha + \lambda - 1)\,MMD^2(q(z), p(z))

    α weighs the mutual information of x and z, λ the match of q(z) and p(z). α = 1 is the MMD-VAE; α = 0, λ = 1 is the
    ELBO. The maximum mean discrepancy is estimated without bias from one code an image and as many samples of p(z).

    Reference:
        Zhao, Song & Ermon 2019, https://arxiv.org/abs/1706.02262.

    Args:
        data: shape, measure and mean of the images.
        alpha: α ≤ 1.
        penalty: λ, with α + λ ≥ 1.
        kernel: 'rbf' as in the paper, or 'imq'.
        scales: bandwidths that the kernel is averaged over; see `regularisers.similarity`.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"alpha": Range(high=1), "scales": POSITIVE}

    NEUTRAL = {"alpha": 0.0, "penalty": 1.0}

    alpha: Tensor
    penalty: Tensor

    def __init__(
        self,
        data: DataSpec,
        alpha: float = 0.0,
        penalty: float = 1000.0,
        kernel: Kernel = "rbf",
        scales: Sequence[float] = (1.0,),
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.kernel, self.scales = kernel, scales
        self.hyper(alpha=alpha, penalty=penalty)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        discrepancy = mmd(terms.z[0], terms.p.rsample((len(x),)), self.kernel, self.scales)
        excess = (self.alpha + self.penalty - 1) * discrepancy - self.alpha * terms.rate.mean()
        return Step({"model": -terms.elbo.mean() + excess}, terms.logs | {"mmd": discrepancy})
