r"""log p(x) by importance sampling from a proposal that is fitted to each image at evaluation.

The encoder's L_K is loose where the encoder is inaccurate, however good the model. Here the proposal is a Gaussian with
full covariance in the noise ε of the prior's map, fitted to p alone:

.. math:: q^*(\epsilon) = N(m, S), \qquad
    L_K = \log \frac1K \sum_{k=1}^K \frac{p(\epsilon_k)\,p(x|T(\epsilon_k))}{q^*(\epsilon_k)}, \quad \epsilon_k \sim q^*

It depends on x, p and noise of its own, and is weighed on fresh samples: E[w] = p(x), so that L_K is a lower bound in
expectation.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import unknown
from vaebench.evaluation.conditions import check_count
from vaebench.evaluation.estimators.chains import ChainSettings, climb_from
from vaebench.evaluation.estimators.gaussians import Gaussians, normal
from vaebench.evaluation.estimators.joint import Joint, differentiable
from vaebench.evaluation.estimators.likelihood import VALUES, check_weights
from vaebench.evaluation.estimators.proposals import Effort, Group, fit, groups, mode_start
from vaebench.evaluation.estimators.scoring import Score, scorer
from vaebench.evaluation.estimators.weights import effective_size, jackknife, largest, pareto_k

BLOCK = 1000  # samples per seeding of an image's noise; part of the definition of a seed
TENTHS = 10
Proposal = Literal["encoder", "refined"]
JUDGES = 100  # samples that decide whether chains take the place of samples
CLOSE = 1 - 1 / math.log10(JUDGES)  # the largest k̂ to trust of so few (Vehtari et al. 2024, section 3.2.4)
SHORT = ChainSettings(chains=16)  # these chains; more of them with fewer steps scatter more for the same passes
SCORING, JUDGING, CLIMBING = ((i + 32) << 32 for i in (2, 6, 7))  # streams of an image's noise; CLIMBING takes two


def check_proposal(name: str) -> None:
    """Raises a UserError unless `name` is 'encoder', for q(z|x), or 'refined', for a Gaussian fitted to each image."""
    if name not in get_args(Proposal):
        raise unknown("proposal", name, get_args(Proposal))


class RefinedEstimates(NamedTuple):
    """Estimates from K samples of each image's proposal, or from chains in their place, float64 (n,) on the CPU.

    Attributes:
        log_likelihood: L_K, nats.
        ess: effective sample size of the K weights.
        pareto_k: shape of their tail; NaN below 25 samples. Of a pilot's, where chains took their place.
        corrected: L_K without its bias of order 1/K; NaN at K = 1, like `variance`; see `jackknife`.
        variance: of L_K over draws of the K samples, nats².
        change: L_K less the mean of L_{K/10} over the ten tenths of its samples, nats, ≥ 0; NaN below K = 10.
        annealed: 1 where K counts chains from the proposal, whose weights these are, 0 where it counts its samples.
    """

    log_likelihood: Tensor
    ess: Tensor
    pareto_k: Tensor
    corrected: Tensor
    variance: Tensor
    change: Tensor
    annealed: Tensor


def estimate(
    model: LatentModel,
    x: Tensor,
    k: int = 1000,
    seed: int = 0,
    effort: Effort = Effort(),  # noqa: B008 - a tuple
    score: Score | None = None,
    start: int = 0,
    batch: int | None = None,
    anneal: bool = False,
) -> RefinedEstimates:
    """log p(x) of every image by its own proposal; inside `evaluation_mode`, for models that pass `require_gaussian`.

    Args:
        model: anything with a prior and a likelihood.
        x: images, (n, *data), on any device.
        k: importance samples.
        seed: of all noise; samples and fit use separate streams.
        effort: of the fit.
        score: a `scorer` of the model, for the samples; default: f32, not compiled.
        start: index of the first image, for messages.
        batch: most images fitted at once; None chooses.
        anneal: where `is_far` finds that a Gaussian is not enough, weigh chains from it in place of samples.

    Raises:
        UserError: k < 1, or a weight that is not finite.
    """
    check_count("k", k)
    score, places, found = score or scorer(model), [], []
    with differentiable():
        for group in groups(model, x, seed, effort, batch):
            q = fit(group.joint, mode_start(group.model, group.joint, group.keys), group.keys, effort)
            shape = pilot_shape(group, q, score) if anneal else torch.zeros(len(group.keys))
            for chains in (False, True):
                here = (is_far(shape) == chains).nonzero()[:, 0]
                if not len(here):
                    continue
                some, its = (group, q) if len(here) == len(shape) else (group.only(here), q.only(here))
                if chains:
                    log_w = short_chains(some, its)
                else:
                    log_w = log_weights(some.joint, some.model, its, some.keys, k, score)
                places.append(group.first + here)
                check_weights(log_w, (start + places[-1]).tolist())
                found.append(summarise(log_w.cpu(), shape[here] if chains else None))
    order = torch.cat(places).argsort()
    return RefinedEstimates(*(torch.cat(column)[order] for column in zip(*found, strict=True)))


def pilot_shape(group: Group, q: Gaussians, score: Score) -> Tensor:
    """k̂ of a pilot sample of each proposal, (b,) on the CPU: how far the posterior is from it.

    The pilot has noise of its own: the choice between samples and chains does not depend on those that are weighed, so
    that either estimate stays a lower bound in expectation.
    """
    log_w = log_weights(group.joint, group.model, q, group.keys, JUDGES, score, JUDGING)
    return pareto_k(largest(log_w), JUDGES).cpu()


def is_far(shape: Tensor) -> Tensor:
    """Whether chains take the place of samples, for the k̂ of a pilot sample; also where that is no number."""
    return ~(shape <= CLOSE)


def short_chains(group: Group, q: Gaussians) -> Tensor:
    """log weights of the chains that take the place of samples, nats, float64 (chains, b)."""
    return climb_from(group.joint, q, group.keys, SHORT, CLIMBING)


def log_weights(
    joint: Joint, model: LatentModel, q: Gaussians, keys: list[bytes], k: int, score: Score, stream: int = SCORING
) -> Tensor:
    """log p(ε) + log p(x|T(ε)) − log q*(ε) of k fresh samples of each image, nats, float64 (k, b).

    Args:
        joint: of the images.
        model: the one for these images, for `score`.
        q: their proposals.
        keys: of their noise.
        k: samples.
        score: a `scorer`.
        stream: of their noise.
    """
    rows = max(1, VALUES.get(joint.x.device.type, VALUES["cuda"]) // joint.x.numel())
    log_w = []
    for done in range(0, k, BLOCK):
        shape = (min(BLOCK, k - done), joint.size)
        noise = torch.stack([normal(key, stream + done // BLOCK, shape, joint.x) for key in keys], 1)
        for some in noise.split(rows):
            e, log_q = q.from_noise(some)
            z, log_p, _ = joint.map(e.to(joint.x))
            log_w.append(log_p.double() + score(z, joint.x, model).double() - log_q)
    return torch.cat(log_w)


def summarise(log_w: Tensor, pilot: Tensor | None = None) -> RefinedEstimates:
    """The estimates from log weights (K, n), of samples or, with the k̂ of their pilots (n,), of chains."""
    k = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(k)
    change = torch.full_like(bound, math.nan)
    if tenth := k // TENTHS:
        parts = log_w[: tenth * TENTHS].unflatten(0, (TENTHS, tenth))
        change = bound - (torch.logsumexp(parts, 1) - math.log(tenth)).mean(0)
    shape = pareto_k(largest(log_w), k) if pilot is None else pilot.to(bound)
    how = torch.full_like(bound, float(pilot is not None))
    return RefinedEstimates(bound, effective_size(log_w), shape, *jackknife(log_w), change, how)
