"""Generalised ELBO with constrained optimisation."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.ranges import ANY, DECAY, POSITIVE


@final
class GECO(Family):
    r"""GECO: the smallest rate at which the distortion stays within a tolerance κ.

    .. math:: \min_{\theta,\phi} \max_{\lambda \ge 0}\; KL(q(z|x) \| p(z)) + \lambda\,C(x), \qquad
              C(x) = -E_{q(z|x)}[\log p(x|z)] - \kappa

    The multiplier λ follows C's moving average, λ ← λ exp(η C), after every step: it grows while the tolerance is
    missed and falls once it is met. The constraint is the distortion itself, in nats per image, so that κ has one
    meaning under every likelihood.

    Reference:
        Rezende & Viola 2018, Taming VAEs, algorithm 1, https://arxiv.org/abs/1810.00597.

    Args:
        data: shape, measure and mean of the images.
        tolerance: κ, nats per image.
        multiplier: λ at the start, > 0.
        speed: η ≥ 0, a step and nat.
        memory: weight of the past in the moving average, in [0, 1).
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"tolerance": ANY, "multiplier": POSITIVE, "memory": DECAY}

    NEUTRAL = {"tolerance": 0.0, "multiplier": 1.0, "speed": 0.0}

    tolerance: Tensor
    multiplier: Tensor
    speed: Tensor
    memory: Tensor
    average: Tensor

    def __init__(
        self,
        data: DataSpec,
        tolerance: float = 70.0,
        multiplier: float = 1.0,
        speed: float = 1e-4,
        memory: float = 0.99,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.hyper(tolerance=tolerance, multiplier=multiplier, speed=speed, memory=memory, average=0.0)

    def settled(self) -> float:
        return math.inf if self.speed > 0 else 0.0  # the multiplier follows the distortion for ever

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        constraint = terms.distortion.mean() - self.tolerance
        loss = terms.rate.mean() + self.multiplier * constraint
        seen = self.pooled(constraint)
        average = torch.where(t == 0, seen, self.memory * self.average + (1 - self.memory) * seen)
        multiplier = (self.multiplier * torch.exp(self.speed * average)).clamp(1e-6, 1e6)
        state = {"average": average, "multiplier": multiplier}
        return Step({"model": loss}, terms.logs | {"multiplier": self.multiplier}, state)
