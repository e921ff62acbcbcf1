"""The VAE with a sparse decoder Jacobian."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.jacobians import l1, require_samples
from vaebench.objectives import elbo
from vaebench.schedules import Constant, Schedule


@final
class JL1VAE(Family):
    r"""JL1-VAE: the β-VAE less γ times the entrywise L1 norm of the decoder's Jacobian, so that latents move parts.

    .. math:: E_{q(z|x)}\Big[\log p(x|z) - s(t)\,\gamma \sum_{d,j} \Big|\frac{\partial E[x_d|z]}{\partial z_j}\Big|\Big]
              - s(t)\,\beta\,KL(q(z|x) \| p(z))

    An L1 norm, unlike L2, changes when the latents are rotated: it is smallest where each moves few pixels. The ELBO at
    β = 1, γ = 0 and s = 1. The gradient runs through z into the encoder too, where the authors' code stops it. Nats.

    Reference:
        Rhodes & Lee 2021, https://arxiv.org/abs/2106.02923.

    Args:
        data: shape, measure and mean of the images.
        beta: β ≥ 0.
        gamma: γ ≥ 0, nats a unit of the norm (pixels in [0, 1] over latents of the prior's scale).
        samples: columns of the Jacobian drawn for each image and step; None, as in the paper, is all of them.
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
        self.samples = require_samples("JL1VAE", samples, least=1)
        self.schedule = schedule or Constant()
        self.hyper(beta=beta, gamma=gamma)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        norm = l1(lambda z: self.likelihood(z).mean, terms.z, self.samples).mean()
        weight = self.schedule(t)
        loss = -elbo(terms.distortion, terms.rate, self.beta * weight).mean() + self.gamma * weight * norm
        return Step({"model": loss}, terms.logs | {"jacobian_l1": norm})
