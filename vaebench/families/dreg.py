"""The importance-weighted autoencoder with doubly reparameterised gradients."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import stopped
from vaebench.functional.objectives import doubly_reparameterised


@final
class DReG(Family):
    r"""IWAE whose encoder learns from the doubly reparameterised gradient of the same bound.

    .. math:: \nabla_\phi L_k = E\Big[\sum_i \tilde w_i^2\, \frac{\partial \log w_i}{\partial z_i}\,
              \nabla_\phi z_i + \tilde w_i \nabla_\phi \log p_\phi(z_i)\Big], \qquad
              \tilde w_i = \frac{w_i}{\sum_j w_j}, \quad w_i = \frac{p(x, z_i)}{q(z_i|x)}

    Unbiased, like the plain gradient, with a signal that does not drown in noise as k grows. The second term is that of
    a prior made of posteriors, which the paper does not have. The decoder learns from the plain gradient. Both losses
    have the bound's own value. Nats per image.

    Reference:
        Tucker et al. 2018, Doubly reparameterized gradient estimators, https://arxiv.org/abs/1810.04152.

    Args:
        data: shape, measure and mean of the images.
        k: samples of z an image.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"k": 1}
    EXACT_GRADIENT = False
    INDEPENDENT = True

    def __init__(self, data: DataSpec, k: int = 64, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.k = k
        if k > 1:
            self.require_weights()

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"encoder": ("posterior",), "decoder": ("likelihood", "prior")}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior()
        z = q.rsample((self.k,))
        log_xz = self.likelihood(z).log_prob(x) + p.log_prob(z)  # (k, b), as are all of these
        log_w, pathwise = log_xz - q.log_prob(z), log_xz - stopped(self.posterior, x).log_prob(z)
        encoder, decoder = doubly_reparameterised(log_w, pathwise, p.log_prob(z.detach()))  # (b,), of one value
        bound = decoder.mean()
        return Step({"encoder": -encoder.mean(), "decoder": -bound}, {"bound": bound, "elbo": log_w.mean()})
