"""The combination importance-weighted autoencoder."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import importance_weighted
from vaebench.ranges import SHARE


@final
class CIWAE(Family):
    r"""CIWAE: between the ELBO and the k-sample bound, from the same samples.

    .. math:: L(x) = \beta\,L_1(x) + (1 - \beta)\,L_k(x), \qquad
              L_k(x) = E_{z_i \sim q(z|x)}\Big[\log \frac1k \sum_i \frac{p(x, z_i)}{q(z_i|x)}\Big]

    A bound on log p(x) for every β in [0, 1]: the ELBO at 1, IWAE at 0. Nats per image.

    Reference:
        Rainforth et al. 2018, Tighter variational bounds are not necessarily better, https://arxiv.org/abs/1802.04537.

    Args:
        data: shape, measure and mean of the images.
        beta: β in [0, 1].
        k: samples of z an image.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"beta": SHARE}

    NEUTRAL = {"beta": 1.0}

    beta: Tensor

    def __init__(self, data: DataSpec, beta: float = 0.5, k: int = 64, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.k = k
        if k > 1:
            self.require_weights()
        self.hyper(beta=beta)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        draw = self.draw(x, self.k)  # log_w: (k, b)
        elbo, tight = draw.log_w.mean(), importance_weighted(draw.log_w).mean()
        bound = self.beta * elbo + (1 - self.beta) * tight
        return Step({"model": -bound}, {"bound": bound, "elbo": elbo})
