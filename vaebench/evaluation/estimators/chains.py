"""Annealed importance sampling from a Gaussian fitted to each image, in the noise of the prior's map."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.evaluation.estimators.ais import climb, schedule
from vaebench.evaluation.estimators.gaussians import Gaussians, normal
from vaebench.evaluation.estimators.hmc import PILOTS, STRIDE, ChainState, transition_noise, tune
from vaebench.evaluation.estimators.joint import Joint


class ChainSettings(NamedTuple):
    """Settings of chains from a refined proposal.

    Attributes:
        chains: per image.
        temperatures: transitions of a chain.
        leapfrog: steps of a transition.
    """

    chains: int = 32
    temperatures: int = 12
    leapfrog: int = 3

    @property
    def passes(self) -> int:
        """Decoder passes per image, those of the chains that tune step sizes included; a gradient counts as one."""
        tuned = PILOTS * (1 + math.ceil(self.temperatures / STRIDE) * self.leapfrog)
        return 2 * (tuned + self.chains * (1 + self.temperatures * self.leapfrog))


class _Path:
    """From q* to p(x, ε), in the coordinates u of ε = m + L u, where q* is N(0, I)."""

    def __init__(self, joint: Joint, q: Gaussians) -> None:
        self.joint, self.mean, self.factor = joint, q.mean.to(joint.x), q.factor.to(joint.x)
        self.volume = q.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).to(joint.x)

    def at(self, z: Tensor) -> ChainState:
        u = z.detach()
        log_joint, slope = self.joint.slope(self.mean + torch.einsum("bij,cbj->cbi", self.factor, u))
        base = -(u.square().sum(-1) + math.log(2 * math.pi) * u.shape[-1]) / 2
        return ChainState(
            u, base, log_joint + self.volume - base, -u, torch.einsum("bji,cbj->cbi", self.factor, slope) + u
        )


def climb_from(joint: Joint, q: Gaussians, keys: list[bytes], settings: ChainSettings, stream: int) -> Tensor:
    """log weights of chains from q* to p(x, ε) of each image, nats, float64 (chains, b): E[w] = p(x) (Neal 2001).

    Args:
        joint: of the images.
        q: their proposals.
        keys: of their noise.
        settings: of the chains.
        stream: first of two streams of noise, 2³² apart: of the chains that tune step sizes, and of the others.
    """
    path, betas, count = _Path(joint, q), schedule(settings.temperatures), settings.temperatures
    up = stream + (1 << 32)
    pilots, starts = (
        torch.stack([normal(key, first, (number, joint.size), joint.x) for key in keys], 1).to(joint.x)
        for first, number in ((stream, PILOTS), (up, settings.chains))
    )
    noise = transition_noise(keys, stream + 1, math.ceil(count / STRIDE), pilots)
    steps = tune(path, pilots, betas, settings.leapfrog, noise)
    return climb(path, starts, betas, steps, settings.leapfrog, transition_noise(keys, up + 1, count, starts))[0]
