"""The importance-weighted autoencoder."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import importance_weighted


@final
class IWAE(Family):
    r"""Importance-weighted autoencoder: maximises the k-sample bound.

    .. math:: L_k(x) = E_{z_1 … z_k \sim q(z|x)}\Big[\log \frac1k \sum_i \frac{p(x, z_i)}{q(z_i|x)}\Big] \le \log p(x)

    L_1 is the ELBO and L_k does not decrease with k. Its gradient is the plain one, through the weights and the
    reparameterised samples; what is logged is the bound itself. Nats per image.

    Reference:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519.

    Args:
        data: shape, measure and mean of the images.
        k: samples of z an image.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"k": 1}

    def __init__(self, data: DataSpec, k: int = 5, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.k = k
        if k > 1:
            self.require_weights()

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        draw = self.draw(x, self.k)  # log_w: (k, b)
        bound = importance_weighted(draw.log_w).mean()
        return Step({"model": -bound}, {"bound": bound, "elbo": draw.log_w.mean()})
