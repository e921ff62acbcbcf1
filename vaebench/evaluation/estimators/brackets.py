"""The error of a refined estimate of log p(x): chains from its proposal, and images whose exact code is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.estimators import refined
from vaebench.evaluation.estimators.ais import check_chains, climb, schedule, simulate
from vaebench.evaluation.estimators.gaussians import Gaussians
from vaebench.evaluation.estimators.hmc import PILOTS, STRIDE, ChainState, transition_noise, tune
from vaebench.evaluation.estimators.joint import Joint, differentiable
from vaebench.evaluation.estimators.refined import Effort
from vaebench.evaluation.estimators.scoring import scorer
from vaebench.evaluation.estimators.weights import effective_size

PILOT, UP = ((i + 36) << 32 for i in range(2))  # streams of an image's noise


class BracketSettings(NamedTuple):
    """Settings of chains from a refined proposal.

    Attributes:
        chains: per image.
        temperatures: transitions of a chain.
        leapfrog: steps of a transition.
    """

    chains: int = 32
    temperatures: int = 12
    leapfrog: int = 3


class Annealed(NamedTuple):
    """Estimates from the chains of each of n images, float64 on the CPU.

    Attributes:
        lower: log of their mean weight, nats, (n,); in expectation at most log p(x).
        ess: effective sample size of the weights, in [1, chains], (n,).
    """

    lower: Tensor
    ess: Tensor


class Certificate(NamedTuple):
    """Bounds on log p(x) of n images sampled from the model, float64 on the CPU.

    Attributes:
        lower: L_K, nats, (n,).
        upper: the same with the exact code in place of the first sample, nats, (n,): its mean is at least that of
            log p(x).
    """

    lower: Tensor
    upper: Tensor


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


def anneal_refined(
    model: LatentModel, x: Tensor, seed: int, effort: Effort, settings: BracketSettings, names: list[int]
) -> Annealed:
    """log p(x) of every image by annealed importance sampling from its refined proposal; inside `evaluation_mode`.

    Neal 2001 (https://arxiv.org/abs/physics/9803008): a lower bound in expectation like L_K, and a tighter one where a
    Gaussian misses the posterior's shape.

    Args:
        model: anything with a prior and a likelihood.
        x: images, (n, *data), on any device.
        seed: of all noise.
        effort: of the proposals' fit.
        settings: of the chains.
        names: of the images, for messages.
    """
    lower, ess = [], []
    with differentiable():
        for joint, part, keys, first in refined.groups(model, x, seed, effort):
            q = refined.fit(joint, refined.mode_start(part, joint, keys), keys, effort)
            log_w = _chains(_Path(joint, q), joint, keys, settings)
            check_chains(log_w, names[first:])
            lower.append((torch.logsumexp(log_w, 0) - math.log(settings.chains)).cpu())
            ess.append(effective_size(log_w).cpu())
    return Annealed(torch.cat(lower), torch.cat(ess))


def _chains(path: _Path, joint: Joint, keys: list[bytes], settings: BracketSettings) -> Tensor:
    betas, count = schedule(settings.temperatures), settings.temperatures
    pilots, starts = (
        torch.stack([refined.normal(key, stream, (number, joint.size), joint.x) for key in keys], 1).to(joint.x)
        for stream, number in ((PILOT, PILOTS), (UP, settings.chains))
    )
    noise = transition_noise(keys, PILOT + 1, math.ceil(count / STRIDE), pilots)
    steps = tune(path, pilots, betas, settings.leapfrog, noise)
    return climb(path, starts, betas, steps, settings.leapfrog, transition_noise(keys, UP + 1, count, starts))[0]


def certificate(
    model: LatentModel, first: int, last: int, k: int, seed: int, effort: Effort, device: torch.device
) -> Certificate:
    r"""Bounds log p(x) from both sides on images sampled from the model; call it inside `evaluation_mode`.

    With z ~ p(z) and x ~ p(x|z), z is an exact sample of p(z|x). With it among the K samples the mean weight W has
    E[1/W] = 1/p(x), so that E[log W] is at least log p(x) (Grosse et al. 2015, https://arxiv.org/abs/1511.02543).

    Args:
        model: anything with a prior and a likelihood that can be sampled.
        first: number of the first image; an image depends on its number and the seed alone.
        last: one past the last.
        k: samples.
        seed: of all noise.
        effort: of the proposals' fit.
        device: of the model.
    """
    lower, upper = [], []
    codes, x = simulate(model, first, last, seed, device)
    with differentiable():
        for joint, part, keys, start in refined.groups(model, x, seed, effort):
            q = refined.fit(joint, refined.mode_start(part, joint, keys), keys, effort)
            log_w = refined.log_weights(joint, part, q, keys, k, scorer(model))
            code = joint.noise(codes[start : start + len(keys)].clone()[None])
            exact = joint.log(code).double() - q.log_prob(code)
            lower.append((torch.logsumexp(log_w, 0) - math.log(k)).cpu())
            upper.append((torch.logsumexp(torch.cat([exact, log_w[1:]]), 0) - math.log(k)).cpu())
    return Certificate(torch.cat(lower), torch.cat(upper))
