"""The regularised deterministic autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.functional.jacobians import frobenius
from vaebench.posteriors import Delta


@final
class RAE(Family):
    r"""Regularised autoencoder: instead of noise in the code, small codes and a decoder of small weights or gradient.

    .. math:: -\log p_\theta(x|z) + \frac\beta2 |z|^2 + \lambda R, \quad z = \mu(x)

    .. math:: \text{RAE-L2: } R = |\theta|^2, \qquad
              \text{RAE-GP: } R = \frac12 \Big\|\frac{\partial E[x|z]}{\partial z}\Big\|_F^2

    The gradient is the decoder's by the code, not by the image; its norm is estimated with one random direction an
    image and step. The cost is the likelihood's, in nats; q(z|x) has no density, so there is no bound. Codes follow no
    prior: the paper fits a mixture of Gaussians to them afterwards, and samples of N(0, I) look worse than its own.

    Reference:
        Ghosh, Sajjadi, Vergari, Black & Schölkopf 2020, https://arxiv.org/abs/1903.12436.

    Args:
        data: shape, measure and mean of the images.
        penalises: 'weights' (RAE-L2) or 'gradient' (RAE-GP).
        beta: β ≥ 0.
        penalty: λ ≥ 0.
        posterior: builds μ(x).
        parts: latent, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = None
    DENSITY = False

    beta: Tensor
    penalty: Tensor

    def __init__(
        self,
        data: DataSpec,
        penalises: Literal["weights", "gradient"] = "weights",
        beta: float = 0.01,
        penalty: float = 8e-5,
        posterior: Callable[[Shape, Shape], Conditional] = Delta,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, **parts)
        self.penalises = penalises
        self.hyper(beta=beta, penalty=penalty)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        z = self.posterior(x).rsample((1,))  # (1, b, latent)
        distortion = -self.likelihood(z).log_prob(x).mean()
        size = z.square().sum(-1).mean() / 2
        logs = {"distortion": distortion, "code_size": size}
        if self.penalises == "weights":
            logs["decoder_weights"] = regulariser = sum(p.square().sum() for p in self.likelihood.parameters())
        else:
            norm = frobenius(lambda z: self.likelihood(z).mean, z, samples=1)  # (b,)
            logs["decoder_gradient"] = regulariser = norm.mean() / 2
        return Step({"model": distortion + self.beta * size + self.penalty * regulariser}, logs)
