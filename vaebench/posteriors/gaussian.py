"""A Gaussian posterior with full covariance."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import final

import torch
from torch import Tensor

from vaebench.distributions.gaussian import FullNormal, triangle
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.posteriors import Posterior


@final
class FullGaussian(Posterior):
    r"""q(z|x) = N(μ(x), L(x) L(x)ᵀ) with L = diag(σ(x)) (I + A(x)/√n), A strictly lower triangular.

    The network outputs μ, log σ and A, n + n (n + 1)/2 values, which dominate its cost for many latents. The paper adds
    the strictly lower part to diag(σ); here it is scaled by σ_i/√n, so that up to n − 1 uncertain correlations do not
    widen a unit with a small σ_i.

    Reference:
        Kingma & Welling 2019, section 2.5.1 (https://arxiv.org/abs/1906.02691).

    Args:
        data: shape of an image.
        latent: shape of a latent, (n,).
        net: builds the network from the two shapes.
    """

    def __init__(self, data: Shape, latent: Shape, net: Callable[[Shape, Shape], Network] = MLP) -> None:
        super().__init__()
        self.n = prod(latent)
        self.net = net(data, (self.n + self.n * (self.n + 1) // 2,))

    def forward(self, c: Tensor | None = None) -> FullNormal:
        out = self.net(c)
        square = triangle(out[..., self.n :], self.n)
        scale = square.diagonal(dim1=-2, dim2=-1).exp()[..., None]  # (b, n, 1)
        one = torch.eye(self.n, dtype=scale.dtype, device=scale.device)
        return FullNormal(out[..., : self.n], scale * (one + torch.tril(square, -1) / math.sqrt(self.n)))
