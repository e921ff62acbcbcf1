"""The hierarchical variational autoencoder of two levels, whose upper prior may be a VampPrior."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.objectives import elbo
from vaebench.posteriors.chains import TopDown, require_descent
from vaebench.priors import PriorFactory
from vaebench.priors.chains import TopDown as TopDownPrior
from vaebench.priors.chains import require_levels
from vaebench.schedules import Constant, Schedule


@final
class HVAE(Family):
    r"""Hierarchical VAE of two levels, both seen by encoder and decoder, so that the upper one is not cut off.

    .. math:: p(x, z) = p(z_2)\,p(z_1|z_2)\,p(x|z_1, z_2), \qquad q(z|x) = q(z_2|x)\,q(z_1|z_2, x)

    .. math:: L(x) = E_q[\log p(x|z_1, z_2)]
              - s(t) \big(KL(q(z_2|x) \| p(z_2)) + E_q\big[KL(q(z_1|z_2, x) \| p(z_1|z_2))\big]\big)

    The two divergences are the rates of the levels. With a VampPrior for p(z_2), made of q(z_2|x), it is the paper's
    VampPrior-HVAE: `prior.top`. The ELBO at s = 1. Nats an image.

    Reference:
        Tomczak & Welling 2018, VAE with a VampPrior, section 4, https://arxiv.org/abs/1705.07120.

    Args:
        data: shape, measure and mean of the images.
        schedule: s(t) in [0, 1] as a function of the optimiser step t.
        latent: units of both levels together.
        posterior: builds q(z|x), of several levels, drawn from the top down.
        prior: builds p(z), of the posterior's levels; None takes `priors.chains.TopDown` with `whole`.
        parts: likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: the posterior or the prior has one level, or the posterior is drawn upwards.
    """

    def __init__(
        self,
        data: DataSpec,
        schedule: Schedule | None = None,
        latent: int = 80,
        posterior: Callable[[Shape, Shape], Conditional] = TopDown,
        prior: PriorFactory | None = None,
        **parts: Any,
    ) -> None:
        prior = prior or partial(TopDownPrior, whole=True)
        super().__init__(data, latent=latent, posterior=posterior, prior=prior, **parts)
        require_levels(type(self).__name__, self.posterior, self.prior)
        require_descent(type(self).__name__, self.posterior)
        self.schedule = schedule or Constant()

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        loss = -elbo(terms.distortion, terms.rate, self.schedule(t)).mean()
        return Step({"model": loss}, terms.logs)
