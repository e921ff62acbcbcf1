"""A VAE whose bound is summed over the components of a mixture posterior."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions.mixture import strata
from vaebench.functional.objectives import stratified, stratified_importance_weighted


@final
class StratifiedVAE(Family):
    r"""VAE with a mixture posterior q = Σ_c π_c q_c: samples of every component, weighted by its π.

    .. math:: L(x) = \sum_c \pi_c\, E_{q_c(z|x)}\Big[\log \frac{p(x, z)}{q(z|x)}\Big] \le
              E_{z_{tc} \sim q_c} \Big[\log \frac1T \sum_{t,c} \pi_c \frac{p(x, z_{tc})}{q(z_{tc}|x)}\Big] \le \log p(x)

    The first is the ELBO (SELBO), without the noise of choosing a component, so that the weights learn too. The second
    (SIWAE, `importance`) is tighter, and the paper finds more modes with it. A posterior that is no mixture counts as
    one component: then the second is IWAE's. Nats per image.

    Reference:
        Morningstar et al. 2021, https://arxiv.org/abs/2003.01687; the first bound also Roeder et al. 2017,
        https://arxiv.org/abs/1703.09194.

    Args:
        data: shape, measure and mean of the images.
        samples: T ≥ 1, draws of each component an image and step.
        importance: maximise the second bound, not the first.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"importance": False}
    STRATIFIED = True

    def __init__(self, data: DataSpec, samples: int = 1, importance: bool = True, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.samples, self.importance = samples, importance
        if importance:
            self.require_weights()

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior()
        z, shares = strata(q, self.samples)  # (samples components, b, latent), (samples components, b)
        log_x = self.likelihood(z).log_prob(x)
        log_w = log_x + p.log_prob(z) - q.log_prob(z)
        elbo = stratified(log_w, shares).mean()
        bound = stratified_importance_weighted(log_w, shares).mean() if self.importance else elbo
        distortion = -stratified(log_x, shares).mean()
        return Step(
            {"model": -bound}, {"bound": bound, "elbo": elbo, "rate": -elbo - distortion, "distortion": distortion}
        )
