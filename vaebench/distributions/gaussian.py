"""A Gaussian with full covariance."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, register_kl
from torch.distributions import Normal as TorchNormal

from vaebench.distributions import SampleShape
from vaebench.errors import Unavailable


class FullNormal(MultivariateNormal):
    """N(loc, L Lᵀ), whose `rsample` works under `torch.func.vmap(randomness="different")`; torch's own does not.

    Args:
        loc: (*batch, n).
        scale_tril: L, lower triangular with a positive diagonal, (*batch, n, n).
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self.scale_tril @ noise[..., None]).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        away = (value - self.loc)[..., None]
        standard = torch.linalg.solve_triangular(self.scale_tril, away, upper=False).squeeze(-1)
        return -(standard.square().sum(-1) + value.shape[-1] * math.log(2 * math.pi)) / 2 - self.log_volume

    @property
    def log_volume(self) -> Tensor:
        """log det L, (*batch,)."""
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@register_kl(FullNormal, Independent)
def _kl(q: FullNormal, p: Independent) -> Tensor:
    """KL(N(m, L Lᵀ)‖N(μ, diag σ²)) = ½ Σ_j ((L Lᵀ)_jj + (m_j − μ_j)²)/σ_j² − n/2 + Σ_j log σ_j − log det L."""
    base: Any = p.base_dist
    if not (isinstance(base, TorchNormal) and p.reinterpreted_batch_ndims == len(p.event_shape) == 1):
        raise Unavailable(f"KL(FullNormal‖{type(base).__name__}) has no closed form")
    squares = (q.variance + (q.loc - base.loc).square()) / base.scale.square()
    return ((squares - 1) / 2 + base.scale.log()).sum(-1) - q.log_volume


def triangle(values: Tensor, n: int) -> Tensor:
    """A lower triangular matrix (*batch, n, n) that holds each of values (*batch, n (n + 1) / 2) once."""
    square = torch.cat([values[..., n:], values.flip(-1)], -1).unflatten(-1, (n, n))
    return torch.tril(square)
