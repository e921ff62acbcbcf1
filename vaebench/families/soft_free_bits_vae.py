"""The VAE with soft free bits."""

from __future__ import annotations

import math
from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import elbo, soft_free_bits
from vaebench.ranges import DECAY, Range


@final
class SoftFreeBitsVAE(Family):
    r"""Soft free bits: the rate's weight γ is steered so that the rate comes to a target λ.

    .. math:: L(x) = E_{q(z|x)}[\log p(x|z)] - \gamma\,KL(q(z|x) \| p(z)), \qquad
              \gamma \leftarrow \min\big(1,\, \gamma\,(1 \pm \epsilon)\big)

    γ grows where the batch's rate exceeds λ by more than a slack, falls where it is below λ, and never exceeds 1, so
    the gradient does not vanish below λ as it does with free bits. The ELBO at λ = 0 and γ = 1. Nats per image.

    Reference:
        Chen et al. 2017, Variational lossy autoencoder, appendix C, https://arxiv.org/abs/1611.02731.

    Args:
        data: shape, measure and mean of the images.
        free: λ ≥ 0, nats per image.
        weight: γ at the start, in (0, 1].
        speed: ε, the relative change of γ in a step, in [0, 1).
        slack: relative width of the band above λ in which γ stays.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"weight": Range(0, 1, open_low=True), "speed": DECAY}

    NEUTRAL = {"free": 0.0, "weight": 1.0}

    free: Tensor
    weight: Tensor
    speed: Tensor
    slack: Tensor

    def __init__(
        self,
        data: DataSpec,
        free: float = 10.0,
        weight: float = 1.0,
        speed: float = 0.1,
        slack: float = 0.05,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.hyper(free=free, weight=weight, speed=speed, slack=slack)

    def settled(self) -> float:
        return math.inf if self.speed > 0 else 0.0  # the weight follows the rate for ever

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        loss = -elbo(terms.distortion, terms.rate, self.weight).mean()
        weight = soft_free_bits(self.weight, self.pooled(terms.rate.mean()), self.free, self.speed, self.slack)
        return Step({"model": loss}, terms.logs | {"weight": self.weight}, {"weight": weight})
