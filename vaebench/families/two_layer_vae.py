"""The autoencoder with two stochastic layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.distributions.hierarchy import named_levels
from vaebench.functional.objectives import importance_weighted
from vaebench.posteriors.hierarchy import BottomUp
from vaebench.priors import PriorFactory
from vaebench.priors.hierarchy import TopDown, require_levels


@final
class TwoLayerVAE(Family):
    r"""Two stochastic layers (or more), the encoder drawn upwards, and the k-sample bound.

    .. math:: p(x, z) = p(z_2)\,p(z_1|z_2)\,p(x|z_1), \quad q(z|x) = q(z_1|x)\,q(z_2|z_1), \quad
              L_k(x) = E\Big[\log \frac1k \sum_i \frac{p(x, z^{(i)})}{q(z^{(i)}|x)}\Big] \le \log p(x)

    L_1 is the ELBO. The rate of a level is E[log q(z_i|·) − log p(z_i|·)]; the two sum to the rate. They are drawn in
    opposite orders, so that only the highest level's is a divergence, and the lowest's may be negative. Nats per image.

    Reference:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519.

    Args:
        data: shape, measure and mean of the images.
        k: samples of z an image.
        latent: units of all levels together.
        posterior: builds q(z|x), of several levels.
        prior: builds p(z), of the posterior's levels.
        parts: likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: the posterior or the prior has one level.
    """

    NEUTRAL = {"k": 1}

    def __init__(
        self,
        data: DataSpec,
        k: int = 1,
        latent: int = 150,
        posterior: Callable[[Shape, Shape], Conditional] = BottomUp,
        prior: PriorFactory = TopDown,
        **parts: Any,
    ) -> None:
        super().__init__(data, latent=latent, posterior=posterior, prior=prior, **parts)
        require_levels(type(self).__name__, self.posterior, self.prior)
        self.k = k
        if k > 1:
            self.require_weights()

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        z, log_q = self.posterior(x).rsample_and_log_prob_levels((self.k,))  # (k, b, latent), (k, b, levels)
        rates = log_q - self.prior().log_prob_levels(z)
        log_w = self.likelihood(z).log_prob(x) - rates.sum(-1)  # (k, b)
        bound = importance_weighted(log_w).mean()
        return Step({"model": -bound}, {"bound": bound, "elbo": log_w.mean()} | named_levels("rate", rates))
