"""The σ-VAE: a Gaussian decoder whose variance is the best one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import DataSpec, Family, Shape, Step
from vaebench.distributions import DiagonalNormal, divergence
from vaebench.errors import UserError
from vaebench.functional.objectives import elbo
from vaebench.likelihoods import Gaussian, Likelihood
from vaebench.measures import CONTINUOUS
from vaebench.ranges import DECAY


@final
class SigmaVAE(Family):
    r"""Optimal σ-VAE: the decoder's variance, one for all pixels, is at its best in every batch in closed form.

    .. math:: E_{q(z|x)}[\log N(x; \mu(z), \sigma^{*2} I)] - KL(q(z|x) \| p(z)), \qquad
              \sigma^{*2} = \operatorname{mean}_{i,d}\,(x_{id} - \mu_d(z_i))^2

    The ELBO, maximised over σ: it balances distortion and rate without a β. σ* has seen the images that it scores, so
    that this is no bound for them: p(x|z), and with it the logged bound and every evaluation, has the σ of a moving
    average over past batches. Neither goes below the likelihood's floor. Nats per image.

    Reference:
        Rybkin, Daniilidis & Levine 2021, https://arxiv.org/abs/2006.13202.

    Args:
        data: shape, measure and mean of the images, which must be continuous.
        memory: weight of the past in the moving average of σ*², in [0, 1).
        likelihood: builds p(x|z), a Gaussian of fixed scale; None takes one that starts at 0.1.
        parts: latent, posterior, prior, lr; see `Family`.

    Raises:
        UserError: the images are not continuous, or the likelihood is no Gaussian of fixed scale.
    """

    RANGES = {"memory": DECAY}

    NEUTRAL = None
    KINDS = frozenset({CONTINUOUS})

    memory: Tensor

    def __init__(
        self,
        data: DataSpec,
        memory: float = 0.99,
        likelihood: Callable[[Shape, DataSpec], Likelihood] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(data, likelihood=likelihood or partial(Gaussian, scale="fixed"), **parts)
        if not isinstance(self.likelihood, Gaussian) or self.likelihood.scale != "fixed":
            raise UserError(
                "SigmaVAE sets the scale of its likelihood itself; choose likelihoods.Gaussian with scale: fixed"
            )
        self.hyper(memory=memory)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p, floor = self.posterior(x), self.prior(), self.likelihood.floor
        z = q.rsample((1,))  # (1, b, latent)
        mean, held = self.likelihood.location_scale(z)  # (1, b, *data), 0-dim
        variance = (x - mean).square().mean().clamp(min=floor**2)
        fitted, distortion = (
            -DiagonalNormal(mean, scale.expand_as(mean), len(self.data.shape)).log_prob(x).mean(0)  # (b,)
            for scale in (variance.sqrt(), held)
        )
        rate = divergence(q, p, z)  # (b,)
        average = torch.where(t == 0, variance, self.memory * held.square() + (1 - self.memory) * variance)
        state = {"likelihood.log_excess": (average.sqrt() - floor).clamp(min=1e-12).log()}
        logs = {"elbo": elbo(distortion, rate).mean(), "rate": rate.mean(), "distortion": distortion.mean()}
        return Step({"model": -elbo(fitted, rate).mean()}, logs | {"sigma": variance.sqrt()}, state)
