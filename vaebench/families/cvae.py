"""The conditional variational autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, final

import torch
from torch import Tensor, nn

from vaebench.core import Conditional, DataSpec, Family, Given, Shape, Step
from vaebench.core.compatibility import require_apart
from vaebench.distributions.hierarchy import join
from vaebench.errors import UserError
from vaebench.likelihoods import Likelihood, natural
from vaebench.posteriors import DiagonalGaussian
from vaebench.priors import PriorFactory, StandardNormal
from vaebench.priors.labelled import NormalOfClass


@final
class CVAE(Family):
    r"""Conditional VAE: encoder and decoder, and optionally the prior, are conditioned on the image's label y.

    .. math:: L(x, y) = E_{q(z|x, y)}[\log p(x|z, y)] - KL(q(z|x, y) \| p(z|y)) \le \log p(x|y)

    The encoder gets y as a learned picture beside the image's channels, the decoder as a one-hot vector beside z, and
    p(z|y) is a diagonal Gaussian for each class, or does not depend on y. Metrics refer to log p(x|y). Nats per image.

    Reference:
        Sohn, Lee & Yan 2015, https://papers.nips.cc/paper/5775-learning-structured-output-representation-using-deep-conditional-generative-models.

    Args:
        data: shape, measure and mean of the images.
        classes: number of labels, 0 to classes − 1; data without labels is refused.
        prior_of_class: p(z|y) depends on y, and `prior` is not used.
        posterior, prior, likelihood, parts: see `Family`.
    """

    def __init__(
        self,
        data: DataSpec,
        classes: int = 10,
        prior_of_class: bool = False,
        posterior: Callable[[Shape, Shape], Conditional] = DiagonalGaussian,
        prior: PriorFactory = StandardNormal,
        likelihood: Callable[[Shape, DataSpec], Likelihood] | None = None,
        **parts: Any,
    ) -> None:
        wide = DataSpec((data.shape[0] + 1, *data.shape[1:]), data.measure)
        super().__init__(
            data,
            posterior=lambda _, latent: posterior(wide.shape, latent),
            prior=lambda latent, _, q: NormalOfClass(classes, latent) if prior_of_class else prior(latent, wide, q),
            likelihood=lambda latent, spec: (likelihood or natural(data))((prod(latent) + classes,), spec),
            **parts,
        )
        require_apart(type(self), self.prior)
        self.classes = classes
        self.picture, self.prior_of_class = nn.Parameter(torch.randn(classes, *wide.shape[1:]) / 10), prior_of_class

    def given(self, y: Tensor | None) -> Given:
        if y is None:
            raise UserError("CVAE is given labels and the data has none; choose a data set with labels")
        known = (y[:, None] == torch.arange(len(self.picture), device=y.device)).to(self.picture.dtype)  # one-hot
        return Given(
            lambda x: self.posterior(torch.cat([x, torch.einsum("bc,chw->bhw", known, self.picture)[:, None]], 1)),
            (lambda: self.prior(known)) if self.prior_of_class else self.prior,
            lambda z: self.likelihood(join(z, known)),
        )

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        return Step({"model": -terms.elbo.mean()}, terms.logs)
