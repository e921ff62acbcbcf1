"""The multiply importance-weighted autoencoder."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import multiply_importance_weighted


@final
class MIWAE(Family):
    r"""MIWAE: the mean of M independent k-sample bounds.

    .. math:: L_{M,k}(x) = \frac1M \sum_{m=1}^M \log \frac1k \sum_{i=1}^k \frac{p(x, z_{m,i})}{q(z_{m,i}|x)},
              \qquad z_{m,i} \sim q(z|x)

    A larger k tightens the bound and drowns the encoder's gradient; a larger M lowers that gradient's variance. The
    VAE at k = 1, IWAE at M = 1. Nats per image.

    Reference:
        Rainforth et al. 2018, Tighter variational bounds are not necessarily better, https://arxiv.org/abs/1802.04537.

    Args:
        data: shape, measure and mean of the images.
        m: M, number of bounds.
        k: samples of z a bound.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"k": 1}

    def __init__(self, data: DataSpec, m: int = 8, k: int = 8, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.m, self.k = m, k
        if k > 1:
            self.require_weights()

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        draw = self.draw(x, self.m * self.k)  # log_w: (m k, b)
        bound = multiply_importance_weighted(draw.log_w, self.k).mean()
        return Step({"model": -bound}, {"bound": bound, "elbo": draw.log_w.mean()})
