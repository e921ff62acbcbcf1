"""A mixture of posteriors as prior."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from zuko.lazy import LazyDistribution

from vaebench.distributions.mixture import EqualMixture, GaussianMixture
from vaebench.errors import UserError
from vaebench.measures import DataSpec, Shape
from vaebench.priors import Prior, Shared
from vaebench.traits import PosteriorTraits


@final
class VampPrior(Prior):
    r"""p(z) = (1/K) Σ_k q(z|u_k): a mixture of the model's own posteriors at K learned pseudo-inputs u_k.

    Gradients reach the encoder too. The pseudo-inputs are constrained to [0, 1], like images. A factorised Gaussian
    posterior is scored by matrix products; other posteriors need a density at any value.

    Reference:
        Tomczak & Welling 2018 (https://arxiv.org/abs/1705.07120).

    Args:
        latent: shape of a latent; unused, since the posterior has it.
        data: shape of the images, and examples or the mean of the training images for initialisation.
        posterior: x -> q(z|x) of the model; not registered here.
        components: K ≥ 1.
        start: initial pseudo-inputs: 'data' for K training images, 'mean' for their mean plus noise.
        noise: standard deviation of that noise, in units of x; 0.01 in the paper.

    Raises:
        UserError: no component, or for 'data' fewer available training images than components.
    """

    encodes = True  # images, to stand at their codes

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        posterior: LazyDistribution,
        components: int = 500,
        start: Literal["data", "mean"] = "data",
        noise: float = 0.01,
    ) -> None:
        super().__init__()
        if components < 1:
            raise UserError(f"VampPrior has {components} components: expected at least 1; raise prior.components")
        self.posterior = Shared(posterior)
        self.space = PosteriorTraits.of(posterior).space
        mean = torch.full(data.shape, 0.5) if data.mean is None else data.mean
        inputs = mean + noise * torch.randn(components, *data.shape)
        if start == "data" and data.examples is not None:  # a loaded model neither has nor needs examples
            if len(data.examples) < components:
                raise UserError(
                    f"VampPrior has {components} components to start at training images, and {len(data.examples)} are "
                    "at hand; lower prior.components or set prior.start to mean"
                )
            inputs = data.examples[torch.linspace(0, len(data.examples) - 1, components).round().long()]
        self.inputs = nn.Parameter(inputs.to(torch.get_default_dtype()).clamp(0, 1))

    def forward(self, c: Tensor | None = None) -> Distribution:
        q = self.posterior.module(self.inputs.clamp(0, 1))
        if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
            equal = torch.full_like(q.base_dist.loc[:, 0], -math.log(len(self.inputs)))
            return GaussianMixture(q.base_dist.loc, q.base_dist.scale, equal)
        return EqualMixture(q)
