"""A mixture around the codes of training images as prior."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from zuko.lazy import LazyDistribution

from vaebench.distributions.gaussian import FullNormal
from vaebench.distributions.mixture import GaussianMixture
from vaebench.errors import UserError
from vaebench.measures import DataSpec, Shape
from vaebench.priors import Prior, Shared

STEPS = 2**16  # pixels that differ by less than one part of these are equal


@final
class ExemplarPrior(Prior):
    r"""p(z) = (1/M) Σ_m N(z; μ(u_m), σ² I): one component around the posterior's mean of each of M training images u_m.

    The images are fixed; the encoder of μ and the shared variance σ² are learned. An image that is itself an exemplar
    would have its own code as a component. Called with images x, the prior therefore omits the exemplars that equal
    each image, and renormalises the weights of the others:

    .. math:: p(z|x) = \frac{\sum_{m: u_m \ne x} N(z; \mu(u_m), \sigma^2 I)}{|\{m: u_m \ne x\}|}

    The family `exemplar_vae` trains with p(z|x); evaluation and other families use p(z). The paper uses all training
    images, or nearest ones from a cache; here M evenly spaced ones are selected once.

    Reference:
        Norouzi, Fleet & Norouzi 2020, Exemplar VAE (https://arxiv.org/abs/2004.04795).

    Args:
        latent: shape of a latent; unused, since the posterior has it.
        data: shape of the images, and examples of the training images.
        posterior: x -> q(z|x) of the model, a Gaussian; not registered here.
        components: M ≥ 2.

    Raises:
        UserError: fewer than two distinct exemplars, fewer available training images than exemplars, or a posterior
            that is not Gaussian.
    """

    encodes = True  # images, to stand at their codes
    inputs: Tensor
    keys: Tensor
    marks: Tensor

    def __init__(self, latent: Shape, data: DataSpec, posterior: LazyDistribution, components: int = 500) -> None:
        super().__init__()
        if components < 2:
            raise UserError(f"ExemplarPrior has {components} components: expected at least 2; raise prior.components")
        self.posterior = Shared(posterior)
        inputs = torch.rand(components, *data.shape)  # a loaded model neither has nor needs examples
        if data.examples is not None:
            if len(data.examples) < components:
                raise UserError(
                    f"ExemplarPrior has {components} components, each a training image, and {len(data.examples)} are "
                    "at hand; lower prior.components"
                )
            inputs = data.examples[torch.linspace(0, len(data.examples) - 1, components).round().long()]
        marks = torch.randint(-(2**62), 2**62, data.shape, generator=torch.Generator().manual_seed(0))
        self.register_buffer("inputs", inputs.to(torch.get_default_dtype()))
        self.register_buffer("marks", marks)
        self.register_buffer("keys", self._key(inputs))
        if len(self.keys.unique()) < 2:
            raise UserError("the exemplars are all the same image, where 2 must differ; raise prior.components")
        self.log_scale = nn.Parameter(torch.zeros(()))
        with torch.no_grad():
            self._centres(self.inputs[:1])

    def forward(self, c: Tensor | None = None) -> GaussianMixture:
        loc = self._centres(self.inputs)  # (M, n)
        weights = torch.zeros(len(loc), dtype=loc.dtype, device=loc.device)
        if c is not None:
            weights = weights.masked_fill(self._key(c)[:, None] == self.keys, -math.inf)  # (b, M)
        return GaussianMixture(loc, self.log_scale.exp().expand_as(loc), torch.log_softmax(weights, -1))

    def _key(self, x: Tensor) -> Tensor:
        """An integer key per image, (b,), equal for equal images; pairwise comparison would take too much memory."""
        return ((x * STEPS).round().long() * self.marks).flatten(1).sum(-1)

    def _centres(self, x: Tensor) -> Tensor:
        q: Distribution = self.posterior.module(x)
        if isinstance(q, FullNormal) or (isinstance(q, Independent) and isinstance(q.base_dist, Normal)):
            return q.mean
        raise UserError(
            f"ExemplarPrior stands around the mean of a Gaussian posterior, and {type(self.posterior.module).__name__} "
            "is none; set model.posterior to vaebench.posteriors.DiagonalGaussian"
        )
