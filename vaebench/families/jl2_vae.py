"""The VAE with a small decoder Jacobian."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.jacobians import frobenius, require_samples
from vaebench.objectives import elbo
from vaebench.schedules import Constant, Schedule


@final
class JL2VAE(Family):
    r"""JL2-VAE: the β-VAE less γ times the squared Frobenius norm of the decoder's Jacobian.

    .. math:: E_{q(z|x)}\Big[\log p(x|z)
              - s(t)\,\gamma\,\Big\|\frac{\partial E[x|z]}{\partial z}\Big\|_F^2\Big] - s(t)\,\beta\,KL(q(z|x) \| p(z))

    The counterpart that Rhodes & Lee compare JL1-VAE with: it smooths, but no rotation of the latents changes it. A VAE
    has such a term already, through the noise in z. The ELBO at β = 1, γ = 0 and s = 1. Nats.

    Reference:
        Rhodes & Lee 2021, appendix, https://arxiv.org/abs/2106.02923.

    Args:
        data: shape, measure and mean of the images.
        beta: β ≥ 0.
        gamma: γ ≥ 0, nats a unit of the squared norm (pixels in [0, 1] over latents of the prior's scale).
        samples: random directions an image and step that estimate the norm; None, as in the paper, is exact.
        schedule: s(t) in [0, 1] as a function of the step.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: fewer than 1 sample.
    """

    NEUTRAL = {"beta": 1.0, "gamma": 0.0}

    beta: Tensor
    gamma: Tensor

    def __init__(
        self,
        data: DataSpec,
        beta: float = 4.0,
        gamma: float = 0.1,
        samples: int | None = None,
        schedule: Schedule | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.samples = require_samples("JL2VAE", samples, least=1)
        self.schedule = schedule or Constant()
        self.hyper(beta=beta, gamma=gamma)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        norm = frobenius(lambda z: self.likelihood(z).mean, terms.z, self.samples).mean()
        weight = self.schedule(t)
        loss = -elbo(terms.distortion, terms.rate, self.beta * weight).mean() + self.gamma * weight * norm
        return Step({"model": loss}, terms.logs | {"jacobian_l2": norm})
