"""The ladder variational autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.objectives import elbo
from vaebench.posteriors.chains import Ladder, require_descent
from vaebench.priors import PriorFactory
from vaebench.priors.chains import TopDown, require_levels
from vaebench.schedules import Constant, Schedule


@final
class LadderVAE(Family):
    r"""Ladder VAE: the encoder goes down the decoder's way, and corrects what the prior expects by their precisions.

    .. math:: q(z_i|z_{i+1}, x) \propto p(z_i|z_{i+1})\,N(z_i; \mu_i(x), \sigma_i^2(x)), \quad
              L(x) = E_q[\log p(x|z_1)] - s(t) \sum_i E_q\big[KL(q(z_i|z_{i+1}, x) \| p(z_i|z_{i+1}))\big]

    with the divergences from the prior, in closed form given the level above: these are the rates of the levels. The
    warm-up s(t) keeps the upper levels from being switched off at the start. The ELBO at s = 1. Nats an image.

    Reference:
        Sønderby, Raiko, Maaløe, Sønderby & Winther 2016, https://arxiv.org/abs/1602.02282.

    Args:
        data: shape, measure and mean of the images.
        schedule: s(t) in [0, 1] as a function of the optimiser step t.
        latent: units of all levels together.
        posterior: builds q(z|x), of several levels, drawn from the top down.
        prior: builds p(z), of the posterior's levels.
        parts: likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: the posterior or the prior has one level, or the posterior is drawn upwards.
    """

    def __init__(
        self,
        data: DataSpec,
        schedule: Schedule | None = None,
        latent: int = 96,
        posterior: Callable[[Shape, Shape], Conditional] = Ladder,
        prior: PriorFactory = TopDown,
        **parts: Any,
    ) -> None:
        super().__init__(data, latent=latent, posterior=posterior, prior=prior, **parts)
        require_levels(type(self).__name__, self.posterior, self.prior)
        require_descent(type(self).__name__, self.posterior)
        self.schedule = schedule or Constant()

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        loss = -elbo(terms.distortion, terms.rate, self.schedule(t)).mean()
        return Step({"model": loss}, terms.logs)
