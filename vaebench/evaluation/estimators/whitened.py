"""A prior's map from noise, z = T(ε), where ε is N(0, I) for Gaussians, flows and the levels of a hierarchy.

Where the prior is not Gaussian, the posterior of ε is closer to a Gaussian than that of z, and ∫ p(ε) p(x|T(ε)) dε is
still p(x). A prior without a map uses ε = z with its own density.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal
from zuko.distributions import NormalizingFlow

from vaebench.distributions.hierarchy import Hierarchy, advance


class Mapped(NamedTuple):
    """Latents that a prior maps noise to.

    Attributes:
        z: T(ε), (*batch, *latent).
        log_p: log-density of ε, nats, (*batch).
        standard: whether that is N(0, I) throughout.
    """

    z: Tensor
    log_p: Tensor
    standard: bool


def from_noise(p: Distribution, noise: Tensor) -> Mapped:
    """The latents T(ε) of noise ε (*batch, *latent), and the density of ε."""
    event = len(p.event_shape)
    match p:
        case Independent(base_dist=Normal() as base) if p.reinterpreted_batch_ndims == event:
            return Mapped(base.loc + base.scale * noise, _standard(noise, event), True)
        case MultivariateNormal():
            return Mapped(p.loc + (p.scale_tril @ noise[..., None])[..., 0], _standard(noise, event), True)
        case NormalizingFlow():
            inner = from_noise(p.base, noise)
            return inner._replace(z=p.transform.inv(inner.z))
        case Hierarchy():
            parts, made = noise.split(p.sizes, -1), dict[int, Mapped]()

            def take(level_p: Distribution, level: int) -> Tensor:
                made[level] = from_noise(level_p, parts[level])
                return made[level].z

            z = torch.cat(advance(p.walk(), take, len(p.sizes), p.order), -1)
            log_p = torch.stack([level.log_p for level in made.values()]).sum(0)
            return Mapped(z, log_p, all(level.standard for level in made.values()))
    return Mapped(noise, p.log_prob(noise), False)


def to_noise(p: Distribution, z: Tensor) -> Tensor:
    """The noise ε with T(ε) = z, for z (*batch, *latent), like z."""
    match p:
        case Independent(base_dist=Normal() as base) if p.reinterpreted_batch_ndims == len(p.event_shape):
            return (z - base.loc) / base.scale
        case MultivariateNormal():
            return torch.linalg.solve_triangular(p.scale_tril, (z - p.loc)[..., None], upper=False)[..., 0]
        case NormalizingFlow():
            return to_noise(p.base, p.transform(z))
        case Hierarchy():
            given, noise = z.split(p.sizes, -1), dict[int, Tensor]()

            def take(level_p: Distribution, level: int) -> Tensor:
                noise[level] = to_noise(level_p, given[level])
                return given[level]

            advance(p.walk(), take, len(p.sizes), p.order)
            return torch.cat([noise[level] for level in range(len(p.sizes))], -1)
    return z


def _standard(noise: Tensor, event: int) -> Tensor:
    """log N(ε; 0, I), nats, the sum over the last `event` dimensions."""
    flat = noise.flatten(-event)
    return -(flat.square().sum(-1) + math.log(2 * math.pi) * flat.shape[-1]) / 2
