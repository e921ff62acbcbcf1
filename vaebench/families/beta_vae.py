"""The β-VAE, with a warm-up."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.objectives import elbo
from vaebench.schedules import Constant, Schedule


@final
class BetaVAE(Family):
    r"""β-VAE: the rate is weighted by β, which may be warmed up over the first steps.

    .. math:: L_\beta(x) = E_{q(z|x)}[\log p(x|z)] - \beta\,s(t)\,KL(q(z|x) \| p(z))

    A bound on log p(x) for β s(t) ≥ 1, and the ELBO at β = 1 with a constant schedule s = 1. Nats an image.

    Reference:
        Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl; the warm-up is Bowman et al. 2016,
        https://arxiv.org/abs/1511.06349.

    Args:
        data: shape, measure and mean of the images.
        beta: β ≥ 0.
        schedule: s(t) in [0, 1] as a function of the optimiser step t.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"beta": 1.0}

    beta: Tensor

    def __init__(self, data: DataSpec, beta: float = 4.0, schedule: Schedule | None = None, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.schedule = schedule or Constant()
        self.hyper(beta=beta)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        beta = self.beta * self.schedule(t)
        loss = -elbo(terms.distortion, terms.rate, beta).mean()
        return Step({"model": loss}, terms.logs | {"beta": beta})
