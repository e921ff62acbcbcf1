"""Curvature of log p(x|z) in the decoder's outputs for each pixel: the weights of a Gauss–Newton matrix.

With outputs θ(z) whose pixels are independent given z, the curvature of −log p(x|z) is about Jᵀ diag(w) J, J = ∂θ/∂z,
with the weights w ≥ 0 below: second derivatives where −log p is convex in θ for all x, else the Fisher information.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution, Independent, Laplace, Normal

from vaebench.distributions import Bernoulli, DiscretisedLogistic
from vaebench.distributions.interval import ContinuousBernoulli
from vaebench.distributions.pixelwise import HyperbolicSecant


class Outputs(NamedTuple):
    """The parameters of a distribution over images, pixel by pixel.

    Attributes:
        values: θ, each (*batch, *data).
        weights: from the image x to w, each like its θ.
    """

    values: tuple[Tensor, ...]
    weights: Callable[[Tensor], tuple[Tensor, ...]]


def outputs(p: Distribution) -> Outputs | None:
    """θ and w of a distribution over images; None where its pixels are not independent, or the weights unknown."""
    if isinstance(p, Independent) and p.reinterpreted_batch_ndims == len(p.event_shape):
        p = p.base_dist
    match p:
        case Bernoulli() | TorchBernoulli():
            return Outputs((p.logits,), lambda _: (_variance(p.logits),))
        case Normal():
            return Outputs((p.loc, p.scale.log()), lambda _: (p.scale**-2, torch.full_like(p.scale, 2)))
        case Laplace():
            return Outputs((p.loc, p.scale.log()), lambda _: (p.scale**-2, torch.ones_like(p.scale)))
        case DiscretisedLogistic():
            return Outputs((p.loc, p.scale.log()), lambda x: _of_logistic(p, x))
        case HyperbolicSecant():
            return Outputs((p.loc, p.scale.log()), lambda x: _of_secant(p, x))
        case ContinuousBernoulli():
            return Outputs((p.logits,), lambda _: (_of_tilted(p.logits),))
    return None


def _variance(logits: Tensor) -> Tensor:
    p = logits.sigmoid()
    return p * (1 - p)


def _of_logistic(p: DiscretisedLogistic, x: Tensor) -> tuple[Tensor, Tensor]:
    """−log(σ(u) − σ(l)) is −log σ(u) − log σ(−l) but for a constant: at either end of the range one of them is 0."""
    half = 0.5 / (p.levels - 1)
    upper, lower = (x + half - p.loc) / p.scale, (x - half - p.loc) / p.scale
    bends = torch.where(x > 1 - half, 0, _variance(upper)) + torch.where(x < half, 0, _variance(lower))
    return bends / p.scale**2, torch.full_like(p.scale, 1.43)  # (π² + 3) / 9: of a logistic density's log-scale


def _of_secant(p: HyperbolicSecant, x: Tensor) -> tuple[Tensor, Tensor]:
    bends = p.exponent / torch.cosh(((x - p.loc) / p.scale).clamp(-40, 40)).square()
    return bends / p.scale**2, torch.full_like(p.scale, 1.0)


def _of_tilted(logits: Tensor) -> Tensor:
    """The variance of a density ∝ e^{lx} on [0, 1]: 1/l² − 1/(4 sinh²(l/2))."""
    l = logits.abs().clamp(1e-1, 60)  # noqa: E741
    return l**-2 - 0.25 / torch.sinh(l / 2).square()
