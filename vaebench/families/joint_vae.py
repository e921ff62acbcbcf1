"""JointVAE: continuous and categorical latents, each with a capacity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.distributions import divergence
from vaebench.distributions.codes import Relaxed
from vaebench.functional.objectives import capacity, elbo
from vaebench.posteriors.codes import NormalAndOneHots
from vaebench.priors import PriorFactory
from vaebench.priors.codes import NormalAndUniformCodes
from vaebench.ranges import POSITIVE
from vaebench.schedules import linear


@final
class JointVAE(Family):
    r"""JointVAE: Gaussian units z and one-hot codes c, whose rates are pulled to targets that grow while training.

    .. math:: E_q[\log p(x|z, c)] - \gamma\,\big|KL(q(z|x) \| p(z)) - C_z(t)\big|
              - \gamma\,\big|KL(q(c|x) \| p(c)) - C_c(t)\big|, \qquad C(t) = C_{\max} \min(1, t / T)

    Both divergences are exact; C_c stops at what the codes can hold, m log k. The decoder reads codes relaxed at the
    temperature τ, or with `hard` one-hot samples, straight through. Evaluation takes c one-hot. Nats per image.

    Reference:
        Dupont 2018, https://arxiv.org/abs/1804.00104.

    Args:
        data: shape, measure and mean of the images.
        gamma, continuous, discrete, length: γ ≥ 0; C_max ≥ 0 of units and codes, nats; T ≥ 0, steps until both are.
        temperature, hard: τ > 0, and whether to train on one-hot samples.
        posterior, prior, parts: latent (the units), likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"temperature": POSITIVE}
    NEUTRAL = {"gamma": 1.0, "continuous": 0.0, "discrete": 0.0, "hard": True}
    POSTERIOR, PRIOR, STAGES = NormalAndOneHots, NormalAndUniformCodes, ("length",)

    gamma: Tensor
    continuous: Tensor
    discrete: Tensor
    length: Tensor
    temperature: Tensor

    def __init__(
        self,
        data: DataSpec,
        gamma: float = 30.0,
        continuous: float = 5.0,
        discrete: float = 5.0,
        length: float = 25_000,
        temperature: float = 0.67,
        hard: bool = False,
        posterior: Callable[[Shape, Shape], Conditional] = NormalAndOneHots,
        prior: PriorFactory = NormalAndUniformCodes,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, prior=prior, **parts)
        self.hard = hard
        self.hyper(gamma=gamma, continuous=continuous, discrete=discrete, length=length, temperature=temperature)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior()
        relaxed = Relaxed(q.codes.logits, self.temperature)
        units, codes = q.units.rsample((1,)), relaxed.straight_through((1,)) if self.hard else relaxed.rsample((1,))
        distortion = -self.likelihood(torch.cat([units, codes], -1)).log_prob(x).mean(0)  # (b,)
        rates = divergence(q.units, p.units, units), divergence(q.codes, p.codes, codes)  # (b,) each
        grown = linear(t, self.length)  # of both targets
        targets = self.continuous * grown, (self.discrete * grown).clamp(max=q.codes.most)
        pull = sum(capacity(rate, target) for rate, target in zip(rates, targets, strict=True))
        logs = {"rate_continuous": rates[0].mean(), "rate_discrete": rates[1].mean(), "distortion": distortion.mean()}
        bound = elbo(distortion, rates[0] + rates[1]).mean()
        return Step({"model": distortion.mean() + self.gamma * pull}, logs | {"elbo": bound})
