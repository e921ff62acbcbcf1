"""A learned mixture of Gaussians as prior."""

from __future__ import annotations

from math import prod
from typing import final

import torch
from torch import Tensor, nn
from zuko.lazy import LazyDistribution

from vaebench.distributions.mixture import GaussianMixture
from vaebench.errors import UserError
from vaebench.measures import DataSpec, Shape
from vaebench.priors import Prior


@final
class MixtureOfGaussians(Prior):
    r"""p(z) = Σ_c π_c N(z; μ_c, diag σ_c²), learned with the model.

    Initialised with equal weights, unit variances and means from N(0, I).

    Reference:
        Dilokthanakul et al. 2016 (https://arxiv.org/abs/1611.02648) and Tomczak & Welling 2018, section 4
        (https://arxiv.org/abs/1705.07120), who compare it with the VampPrior.

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
        components: C ≥ 1.

    Raises:
        UserError: no component.
    """

    ALSO = ("MoG",)

    def __init__(
        self,
        latent: Shape,
        data: DataSpec | None = None,
        posterior: LazyDistribution | None = None,
        components: int = 100,
    ) -> None:
        super().__init__()
        if components < 1:
            raise UserError(
                f"MixtureOfGaussians has {components} components: expected at least 1; raise prior.components"
            )
        self.loc = nn.Parameter(torch.randn(components, prod(latent)))
        self.log_scale = nn.Parameter(torch.zeros(components, prod(latent)))
        self.logits = nn.Parameter(torch.zeros(components))

    def forward(self, c: Tensor | None = None) -> GaussianMixture:
        return GaussianMixture(self.loc, self.log_scale.exp(), torch.log_softmax(self.logits, -1))
