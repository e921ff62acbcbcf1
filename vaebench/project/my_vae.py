"""A family of your own: the parts that all families have, and an objective."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step


@final
class MyVAE(Family):
    r"""A VAE whose rate weighs less than its distortion.

    .. math:: L(x) = E_{q(z|x)}[\log p(x|z)] - w KL(q(z|x) \| p(z))

    Args:
        data: shape, measure and mean of the images.
        weight: w; 1 is the evidence lower bound.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `vaebench.core.Family`.
    """

    NEUTRAL = {"weight": 1.0}
    weight: Tensor

    def __init__(self, data: DataSpec, weight: float = 0.5, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.hyper(weight=weight)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y, 1)
        return Step({"model": (terms.distortion + self.weight * terms.rate).mean()}, terms.logs)
