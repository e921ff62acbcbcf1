"""The error of a refined estimate of log p(x): chains from its proposal, and images whose exact code is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.estimators import refined
from vaebench.evaluation.estimators.ais import check_chains, simulate
from vaebench.evaluation.estimators.chains import ChainSettings, climb_from
from vaebench.evaluation.estimators.joint import differentiable
from vaebench.evaluation.estimators.proposals import Effort, fit, groups, mode_start
from vaebench.evaluation.estimators.scoring import scorer
from vaebench.evaluation.estimators.weights import effective_size

BRACKETING = 36 << 32  # stream of an image's noise


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


def anneal_refined(
    model: LatentModel, x: Tensor, seed: int, effort: Effort, settings: ChainSettings, names: list[int]
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
        for joint, part, keys, first in groups(model, x, seed, effort):
            q = fit(joint, mode_start(part, joint, keys), keys, effort)
            log_w = climb_from(joint, q, keys, settings, BRACKETING)
            check_chains(log_w, names[first:])
            lower.append((torch.logsumexp(log_w, 0) - math.log(settings.chains)).cpu())
            ess.append(effective_size(log_w).cpu())
    return Annealed(torch.cat(lower), torch.cat(ess))


def certificate(
    model: LatentModel,
    first: int,
    last: int,
    k: int,
    seed: int,
    effort: Effort,
    device: torch.device,
    anneal: bool = False,
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
        anneal: estimate the lower bound as `refined.estimate` does with `anneal`.
    """
    lower, upper = [], []
    codes, x = simulate(model, first, last, seed, device)
    with differentiable():
        for group in groups(model, x, seed, effort):
            joint, part, keys, start = group
            q = fit(joint, mode_start(part, joint, keys), keys, effort)
            log_w = refined.log_weights(joint, part, q, keys, k, scorer(model))
            low = torch.logsumexp(log_w, 0) - math.log(k)
            if anneal:
                far = refined.is_far(refined.pilot_shape(group, q, scorer(model))).nonzero()[:, 0]
                if len(far):
                    chains = refined.short_chains(group.only(far), q.only(far))
                    low[far] = torch.logsumexp(chains, 0) - math.log(len(chains))
            code = joint.noise(codes[start : start + len(keys)].clone()[None])
            exact = joint.log(code).double() - q.log_prob(code)
            lower.append(low.cpu())
            upper.append((torch.logsumexp(torch.cat([exact, log_w[1:]]), 0) - math.log(k)).cpu())
    return Certificate(torch.cat(lower), torch.cat(upper))
