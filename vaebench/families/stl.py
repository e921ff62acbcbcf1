"""The VAE whose encoder learns along the path alone."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import stopped


@final
class STL(Family):
    r"""Sticking the landing: the ELBO, with the score of q dropped from its gradient.

    .. math:: \nabla_\phi L = E_\epsilon\Big[\frac{\partial}{\partial z} \big(\log p(x, z) - \log q(z|x)\big)\,
              \nabla_\phi z(\epsilon, x)\Big]

    The dropped term, ∇ log q(z|x) at fixed z, is zero in the mean; without it the gradient's variance vanishes where q
    is the exact posterior. The loss has the bound's own value. Nats per image.

    Reference:
        Roeder, Wu & Duvenaud 2017, Sticking the landing, https://arxiv.org/abs/1703.09194.

    Args:
        data: shape, measure and mean of the images.
        samples: draws of z an image and step.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    EXACT_GRADIENT = False

    def __init__(self, data: DataSpec, samples: int = 1, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.samples = samples

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        draw = self.draw(x, self.samples)
        log_q = stopped(self.posterior, x).log_prob(draw.z)  # (k, b)
        bound = (draw.log_x + draw.log_p - log_q).mean()
        return Step({"model": -bound}, {"elbo": bound, "distortion": -draw.log_x.mean()})
