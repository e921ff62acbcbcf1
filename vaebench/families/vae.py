"""The variational autoencoder."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step


@final
class VAE(Family):
    r"""Variational autoencoder: maximises the evidence lower bound.

    .. math:: L(x) = E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \| p(z)) \le \log p(x)

    with the expectation estimated from `samples` reparameterised draws of z, and the divergence in closed form where
    there is one. Distortion and rate, the two terms, are in nats per image.

    Reference:
        Kingma & Welling 2014, Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114.

    Args:
        data: shape, measure and mean of the images.
        samples: draws of z an image and step.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    def __init__(self, data: DataSpec, samples: int = 1, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.samples = samples

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y, self.samples)
        return Step({"model": -terms.elbo.mean()}, terms.logs)
