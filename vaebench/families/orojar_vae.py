"""The VAE whose latents move the image in orthogonal directions."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.functional.jacobians import overlap
from vaebench.ranges import Range


@final
class OroJaRVAE(Family):
    r"""Orthogonal Jacobian regularisation: the ELBO less λ times the overlap of the decoder Jacobian's columns.

    .. math:: L(x) - \lambda\,E_{q(z|x)} \sum_{i \ne j} \big(J_i^\top J_j\big)^2, \qquad
              J_j = \frac{\partial E[x|z]}{\partial z_j}

    The paper regularises the layers of a GAN's generator; here it is a VAE's decoded mean. It takes the largest overlap
    of a batch, here it is the mean, estimated from the batch's first half: two directions of half the images need the
    memory of one of all. The ELBO at λ = 0. Nats per image.

    Reference:
        Wei et al. 2021, Orthogonal Jacobian Regularization for Unsupervised Disentanglement in Image Generation,
        https://arxiv.org/abs/2108.07668.

    Args:
        data: shape, measure and mean of the images.
        penalty: λ ≥ 0, nats per unit of the overlap.
        samples: random directions per image and step that estimate the overlap, at least 2; None is exact.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: fewer than 2 samples.
    """

    RANGES = {"samples": Range(2)}
    NEUTRAL = {"penalty": 0.0}

    penalty: Tensor

    def __init__(self, data: DataSpec, penalty: float = 0.1, samples: int | None = 2, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.samples = samples
        self.hyper(penalty=penalty)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        half = terms.z[:, : (len(x) + 1) // 2]
        shared = overlap(lambda z: self.likelihood(z).mean, half, self.samples).mean()
        return Step({"model": -terms.elbo.mean() + self.penalty * shared}, terms.logs | {"overlap": shared})
