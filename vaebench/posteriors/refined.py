"""An encoder with outputs that are refined by gradient steps on each image's bound."""

from __future__ import annotations

from typing import cast, final

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.func import grad
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal, divergence
from vaebench.networks.unregistered import Shared
from vaebench.posteriors import Posterior


@final
class Refined(Posterior):
    r"""q(z|x) = N(μ_K, diag σ_K²), from the encoder's (μ_0, σ_0) by K gradient ascent steps on the image's ELBO.

    .. math:: \lambda_{k+1} = \lambda_k + \alpha\,\nabla_\lambda \text{ELBO}(\lambda_k; x), \qquad
              \lambda = (\mu, \log \sigma)

    with gradients clipped to the norm `limit`. Differentiable through the steps, and vmap-compatible. In training every
    step draws new noise; in evaluation the noise is fixed and shared by all images, so that q(z|x) depends on x alone.
    It can refine a trained model for evaluation: ``model.posterior = Refined(model.posterior, model.prior,
    model.likelihood)``.

    Reference:
        Kim et al. 2018, Semi-amortized variational autoencoders, https://arxiv.org/abs/1802.02550.

    Args:
        encoder: x -> (μ_0, σ_0), a diagonal Gaussian.
        prior: -> p(z) of the model; not registered here.
        likelihood: z -> p(x|z) of the model; not registered here.
        steps: K ≥ 0.
        rate: α > 0, per nat.
        samples: number of samples of z per step.
        limit: largest gradient norm of a step, nats.
    """

    noise: Tensor
    rate: Tensor

    def __init__(
        self,
        encoder: LazyDistribution,
        prior: LazyDistribution,
        likelihood: LazyDistribution,
        steps: int = 5,
        rate: float = 0.1,
        samples: int = 1,
        limit: float = 5.0,
    ) -> None:
        super().__init__()
        self.encoder, self.prior, self.likelihood = encoder, Shared(prior), Shared(likelihood)
        self.steps, self.samples, self.limit = steps, samples, limit
        generator = torch.Generator().manual_seed(0)
        shape = (steps, samples, 1, *prior().event_shape)
        self.register_buffer("noise", torch.randn(shape, generator=generator))
        self.register_buffer("rate", torch.tensor(float(rate)))

    def forward(self, c: Tensor | None = None) -> Independent:
        x, q = cast(Tensor, c), cast(Independent, self.encoder(c))
        with torch.inference_mode(False):  # inference tensors have no derivative
            x, loc, log_scale = x.clone(), q.base_dist.loc.clone(), q.base_dist.scale.clone().log()
            kept = self.noise.expand(-1, -1, *loc.shape)
            for noise in torch.randn_like(kept) if self.training else kept:
                slopes = grad(self._bound, (0, 1))(loc, log_scale, x, noise)
                norm = (slopes[0].square() + slopes[1].square()).sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
                pace = self.rate * (self.limit / norm).clamp(max=1)
                loc, log_scale = loc + pace * slopes[0], log_scale + pace * slopes[1]
        return DiagonalNormal(loc, log_scale.exp())

    def _bound(self, loc: Tensor, log_scale: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """The sum of the images' ELBOs, each with its own (μ, log σ)."""
        q = DiagonalNormal(loc, log_scale.exp())
        z = loc + log_scale.exp() * noise  # (samples, b, n)
        log_x = cast(Distribution, self.likelihood.module(z)).log_prob(x).mean(0)
        return (log_x - divergence(q, self.prior.module(), z)).sum()
