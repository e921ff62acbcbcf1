"""The VAE with the mutual information of image and code maximised."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import minibatch_information


@final
class InfoMaxVAE(Family):
    r"""InfoMax-VAE: the ELBO plus a lower bound on the information that the code holds about the image.

    .. math:: L(x) = E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \| p(z)) + \alpha\,I_q(x; z)

    I_q is bounded from a batch of b images with q's own density, which needs no critic; the bound is at most log b, and
    so is what can be gained. As E KL(q(z|x)‖p(z)) = I_q(x; z) + KL(q(z)‖p(z)), at α = 1 (with the exact I_q) the price
    of information is gone and the aggregate posterior's divergence is left. No bound on log p(x); the ELBO at α = 0.
    Nats per image.

    Reference:
        Rezaabad & Vishwanath 2020, https://arxiv.org/abs/1912.13361; the estimate is Poole et al. 2019,
        https://arxiv.org/abs/1905.06922.

    Args:
        data: shape, measure and mean of the images.
        alpha: α ≥ 0.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"alpha": 0.0}

    alpha: Tensor

    def __init__(self, data: DataSpec, alpha: float = 1.0, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.hyper(alpha=alpha)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        information = minibatch_information(terms.q.log_prob(terms.z[0][:, None]))
        return Step({"model": -terms.elbo.mean() - self.alpha * information}, terms.logs | {"information": information})
