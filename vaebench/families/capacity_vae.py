"""The β-VAE with controlled capacity."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.objectives import capacity
from vaebench.schedules import linear


@final
class CapacityVAE(Family):
    r"""Capacity-controlled β-VAE: the rate is pulled to a target C that grows while training goes on.

    .. math:: L(x) = E_{q(z|x)}[\log p(x|z)] - \gamma\,\big|KL(q(z|x) \| p(z)) - C(t)\big|, \qquad
              C(t) = C_{\max} \min(1, t / T)

    The rate in it is the batch's mean, so that images may differ in theirs. Nats per image; no bound on log p(x) in
    general, and the ELBO at γ = 1 and C_max = 0.

    The paper's γ = 1000 and T = 100,000 (`configs/family/capacity_vae_burgess.yaml`) drown the distortion under Adam at
    common budgets; the defaults are for 10 epochs or so.

    Reference:
        Burgess et al. 2018, Understanding disentangling in β-VAE, https://arxiv.org/abs/1804.03599.

    Args:
        data: shape, measure and mean of the images.
        gamma: γ ≥ 0.
        capacity: C_max ≥ 0, nats per image.
        length: T, training steps until C_max is reached; 0 or more.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"gamma": 1.0, "capacity": 0.0}
    STAGES = ("length",)

    gamma: Tensor
    capacity: Tensor
    length: Tensor

    def __init__(
        self, data: DataSpec, gamma: float = 20.0, capacity: float = 25.0, length: float = 4000, **parts: Any
    ) -> None:
        super().__init__(data, **parts)
        self.hyper(gamma=gamma, capacity=capacity, length=length)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        target = self.capacity * linear(t, self.length)
        loss = terms.distortion.mean() + self.gamma * capacity(terms.rate, target)
        return Step({"model": loss}, terms.logs | {"capacity": target})
