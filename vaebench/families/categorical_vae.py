"""The VAE with categorical codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.distributions import divergence
from vaebench.distributions.codes import Relaxed
from vaebench.functional.objectives import elbo
from vaebench.posteriors.codes import OneHots
from vaebench.priors import PriorFactory
from vaebench.priors.codes import FactorisedCodes, UniformCodes
from vaebench.ranges import POSITIVE


@final
class CategoricalVAE(Family):
    r"""Categorical VAE: n one-hot codes, which training relaxes to points of a simplex.

    .. math:: E_{q_\tau(z|x)}[\log p(x|z) + \log p_\lambda(z) - \log q_\tau(z|x)], \qquad
              q_\tau = \mathrm{Concrete}(\alpha(x), \tau), \; p_\lambda = \mathrm{Concrete}(\alpha, \lambda)

    is the ELBO of the relaxed model, by densities on the simplex. The codes themselves are the limit of both
    temperatures at 0, and evaluation takes them so: z is one-hot, and KL(q‖p) a sum. With `hard`, training does too:
    p(x|z) reads one-hot samples, the divergence is exact, the encoder's gradient goes straight through. Nats per image.

    Reference:
        Maddison, Mnih & Teh 2017, https://arxiv.org/abs/1611.00712; Jang, Gu & Poole 2017,
        https://arxiv.org/abs/1611.01144.

    Args:
        data: shape, measure and mean of the images.
        temperature: τ > 0, of the encoder's relaxation; default 1/(k − 1) of k codes a place, the largest at which a
            relaxed code has no mode inside the simplex (Maddison et al., proposition 1).
        prior_temperature: λ > 0, of the prior's; default as τ.
        hard: train on one-hot samples.
        posterior: builds q(z|x); `latent` is n.
        prior: builds p(z), of independent codes.
        parts: latent, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"temperature": POSITIVE, "prior_temperature": POSITIVE}
    NEUTRAL = {"hard": True}
    POSTERIOR, PRIOR = OneHots, FactorisedCodes

    temperature: Tensor
    prior_temperature: Tensor

    def __init__(
        self,
        data: DataSpec,
        temperature: float | None = None,
        prior_temperature: float | None = None,
        hard: bool = False,
        posterior: Callable[[Shape, Shape], Conditional] = OneHots,
        prior: PriorFactory = UniformCodes,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, prior=prior, **parts)
        self.hard = hard
        coldest = 1 / max(self.prior().size - 1, 1)
        own, priors = (coldest if given is None else given for given in (temperature, prior_temperature))
        self.hyper(temperature=own, prior_temperature=priors)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior()
        relaxed = Relaxed(q.logits, self.temperature)
        log_z = relaxed.log_rsample((1,))  # (1, b, n k)
        z = relaxed.straight_through((1,)) if self.hard else log_z.exp()
        distortion = -self.likelihood(z).log_prob(x).mean(0)  # (b,)
        rate = exact = divergence(q, p, z)  # (b,)
        if not self.hard:
            prior = Relaxed(p.logits, self.prior_temperature)
            rate = (relaxed.log_prob_at(log_z) - prior.log_prob_at(log_z)).mean(0)
        bound = elbo(distortion, rate).mean()
        return Step({"model": -bound}, {"elbo": bound, "rate": exact.mean(), "distortion": distortion.mean()})
