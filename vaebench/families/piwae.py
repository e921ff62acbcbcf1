"""The partially importance-weighted autoencoder."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import importance_weighted, multiply_importance_weighted


@final
class PIWAE(Family):
    r"""PIWAE: the encoder learns from M bounds of k samples, the decoder from one bound of all M k.

    .. math:: \phi: \; \max \frac1M \sum_{m=1}^M \log \frac1k \sum_{i=1}^k w_{m,i}, \qquad
              \theta: \; \max \log \frac1{Mk} \sum_{m,i} w_{m,i}, \qquad w_{m,i} = \frac{p(x, z_{m,i})}{q(z_{m,i}|x)}

    from the same samples z ~ q(z|x). A tight bound helps the decoder and harms the encoder. Nats per image; what is
    logged is the decoder's bound.

    Reference:
        Rainforth et al. 2018, Tighter variational bounds are not necessarily better, https://arxiv.org/abs/1802.04537.

    Args:
        data: shape, measure and mean of the images.
        m: M, the encoder's number of bounds.
        k: samples of z in each of them.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"m": 1, "k": 1}

    def __init__(self, data: DataSpec, m: int = 8, k: int = 8, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.m, self.k = m, k
        if m * k > 1:
            self.require_weights()

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"encoder": ("posterior",), "decoder": ("likelihood", "prior")}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        draw = self.draw(x, self.m * self.k)  # log_w: (m k, b)
        encoder = multiply_importance_weighted(draw.log_w, self.k).mean()
        bound = importance_weighted(draw.log_w).mean()
        return Step({"encoder": -encoder, "decoder": -bound}, {"bound": bound, "elbo": draw.log_w.mean()})
