"""The VAE with a sparse or a small decoder Jacobian."""

from __future__ import annotations

from typing import Any, Literal, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.jacobians import frobenius, l1
from vaebench.functional.objectives import elbo
from vaebench.schedules import Constant, Schedule


@final
class JLVAE(Family):
    r"""JL1-VAE and JL2-VAE: the β-VAE less γ times a norm of the decoder's Jacobian J.

    .. math:: E_{q(z|x)}\big[\log p(x|z) - s(t)\,\gamma\,N(J)\big] - s(t)\,\beta\,KL(q(z|x) \| p(z)), \quad
              J_{dj} = \frac{\partial E[x_d|z]}{\partial z_j}

    .. math:: \text{JL1: } N(J) = \sum_{d,j} |J_{dj}|, \qquad \text{JL2: } N(J) = \sum_{d,j} J_{dj}^2

    The L1 norm changes when the latents are rotated: it is smallest where each moves few pixels. The L2 norm, its
    counterpart in the paper, smooths, but no rotation changes it; a VAE has such a term already, by the noise in z. The
    gradient runs through z into the encoder too, where the authors' code stops it. The ELBO at β = 1, γ = 0 and
    s = 1. Nats.

    Reference:
        Rhodes & Lee 2021, https://arxiv.org/abs/2106.02923; JL2 in its appendix.

    Args:
        data: shape, measure and mean of the images.
        norm: 1 or 2.
        beta: β ≥ 0.
        gamma: γ ≥ 0, nats per unit of the norm (pixels in [0, 1] over latents of the prior's scale).
        samples: of each image and step, columns of J (JL1) or random directions (JL2) that estimate the norm; None, as
            in the paper, is exact.
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
        norm: Literal[1, 2] = 1,
        beta: float = 4.0,
        gamma: float = 0.1,
        samples: int | None = None,
        schedule: Schedule | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.samples, self.order, self.norm = samples, norm, {1: l1, 2: frobenius}[norm]
        self.schedule = schedule or Constant()
        self.hyper(beta=beta, gamma=gamma)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms, weight = self.terms(x, y), self.schedule(t)
        norm = self.norm(lambda z: self.likelihood(z).mean, terms.z, self.samples).mean()
        loss = -elbo(terms.distortion, terms.rate, self.beta * weight).mean() + self.gamma * weight * norm
        return Step({"model": loss}, terms.logs | {f"jacobian_l{self.order}": norm})
