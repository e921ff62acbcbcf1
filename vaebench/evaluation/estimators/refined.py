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
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable, absence, unknown
from vaebench.evaluation.conditions import check_count, device_and_dtype, for_images, noise_keys, start_noise
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.estimators.gaussians import Gaussians, inverse_factor, widened
from vaebench.evaluation.estimators.joint import Joint, differentiable
from vaebench.evaluation.estimators.likelihood import VALUES, check_weights
from vaebench.evaluation.estimators.scoring import Score, scorer
from vaebench.evaluation.estimators.weights import effective_size, jackknife, largest, pareto_k

BLOCK = 1000  # samples per seeding of an image's noise; part of the definition of a seed
HALVINGS = (1.0, 0.5, 0.25, 0.1, 0.03)  # trial lengths of a Gauss–Newton step
LONGEST = 0.25  # least weight of the newest curvature in the running mean
PILOTS = 32  # samples that decide whether the rounds improved the fit
TENTHS = 10
Proposal = Literal["encoder", "refined"]
STARTING, FITTING, SCORING, DECIDING = ((i + 32) << 32 for i in range(4))  # streams of an image's noise


def check_proposal(name: str) -> None:
    """Raises a UserError unless `name` is 'encoder', for q(z|x), or 'refined', for a Gaussian fitted to each image."""
    if name not in get_args(Proposal):
        raise unknown("proposal", name, get_args(Proposal))


class Effort(NamedTuple):
    """Length of a proposal's fit.

    Attributes:
        steps: of Gauss–Newton, to the mode.
        rounds: of the natural gradient of the ELBO.
        samples: of each round, in antithetic pairs; even.
    """

    steps: int = 4
    rounds: int = 6
    samples: int = 4

    def passes(self, size: int) -> int:
        """Decoder passes per image of d latent values; a column of a Jacobian or a gradient counts as one."""
        curved = 3 + size
        return self.steps * (curved + len(HALVINGS)) + 1 + (1 + self.rounds * self.samples) * curved + 2 * PILOTS


class RefinedEstimates(NamedTuple):
    """Estimates from K samples of each image's proposal, float64 (n,) on the CPU.

    Attributes:
        log_likelihood: L_K, nats.
        ess: effective sample size of the K weights.
        pareto_k: shape of their tail; NaN below 25 samples.
        corrected: L_K without its bias of order 1/K; NaN at K = 1, like `variance`; see `jackknife`.
        variance: of L_K over draws of the K samples, nats².
        change: L_K less the mean of L_{K/10} over the ten tenths of its samples, nats, ≥ 0; NaN below K = 10.
    """

    log_likelihood: Tensor
    ess: Tensor
    pareto_k: Tensor
    corrected: Tensor
    variance: Tensor
    change: Tensor


def estimate(
    model: LatentModel,
    x: Tensor,
    k: int = 1000,
    seed: int = 0,
    effort: Effort = Effort(),  # noqa: B008 - a tuple
    score: Score | None = None,
    start: int = 0,
    batch: int | None = None,
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

    Raises:
        UserError: k < 1, or a weight that is not finite.
    """
    check_count("k", k)
    score = score or scorer(model)
    weights = []
    with differentiable():
        for joint, part, keys, first in groups(model, x, seed, effort, batch):
            q = fit(joint, mode_start(part, joint, keys), keys, effort)
            weights.append(log_weights(joint, part, q, keys, k, score))
            check_weights(weights[-1], start + first)
    return summarise(torch.cat(weights, 1).cpu())


def groups(
    model: LatentModel, x: Tensor, seed: int, effort: Effort, batch: int | None = None
) -> Iterator[tuple[Joint, LatentModel, list[bytes], int]]:
    """Images x (n, *data) in small groups: their joint density, the model for them, noise keys, and the first index.

    Call it inside `differentiable`.
    """
    device, dtype = device_and_dtype(model, x)
    values = x[0].numel() * model.prior().event_shape.numel() * effort.samples
    size = batch or max(1, 2 * VALUES.get(device.type, VALUES["cuda"]) // values)
    for first in range(0, len(x), size):
        some, part = x[first : first + size], for_images(model, slice(first, first + size))
        yield Joint(part, some.to(device, dtype).clone()), part, noise_keys(some, seed), first


def mode_start(model: LatentModel, joint: Joint, keys: list[bytes]) -> Tensor:
    """The start of the search for the mode, ε (b, d): the encoder's code or 0, whichever has the higher p(x, ε)."""
    centre = joint.x.new_zeros(len(joint.x), joint.size)
    points = [centre]
    with suppress(Unavailable), absence("the posterior has neither a mean nor samples"):
        code = _code(model, joint.x, keys)
        if code.shape == (len(joint.x), *joint.event):
            points.append(joint.noise(code[None])[0])
    starts = torch.stack(points)
    heights = joint.log(starts).nan_to_num(-math.inf, -math.inf, -math.inf)
    return starts[heights.argmax(0), torch.arange(len(centre), device=centre.device)]


def _code(model: LatentModel, x: Tensor, keys: list[bytes]) -> Tensor:
    q = model.posterior(x)
    with suppress(Unavailable), absence():
        return q.mean.detach()
    codes = []
    for i, key in enumerate(keys):
        start_noise(key, STARTING, x.device)
        codes.append(sample(for_images(model, slice(i, i + 1)).posterior(x[i : i + 1]), 1)[0])
    return torch.cat(codes)


def fit(joint: Joint, start: Tensor, keys: list[bytes], effort: Effort) -> Gaussians:
    r"""Fits the proposal of each image: finds the mode, then ascends the ELBO, then widens the Gaussian.

    Damped Gauss–Newton steps lead to a mode of p(x, ε). From the Gaussian with its curvature, each round takes
    antithetic samples of q = N(m, S) and steps along the natural gradient of the ELBO (Khan & Lin 2017,
    https://arxiv.org/abs/1703.04265):

    .. math:: S^{-1} \leftarrow (1 - \rho) S^{-1} + \rho\, E_q[H(\epsilon)], \qquad
              m \leftarrow m + \tau\, S\, E_q[\nabla \log p(x, \epsilon)]

    with H the Gauss–Newton curvature of −log p(x, ε), ρ = max(1/i, 1/4) in round i, and τ = 1/2, in the last two rounds
    1/4. The Gaussian at the mode is used instead where the ELBO of 32 further samples is not higher than there. Finally
    each deviation s along the axes of S is multiplied by 1 + 0.3 (1 − min(s², 1)).

    Args:
        joint: of the images.
        start: ε, (b, d).
        keys: of the images' noise.
        effort: how long.
    """
    mean = _mode(joint, start, effort.steps).double()
    precision = joint.curvature(mean.to(start)[None])
    factor = inverse_factor(precision)
    first = Gaussians(mean, factor)
    noise = torch.stack(
        [normal(key, FITTING, (effort.rounds, effort.samples // 2, joint.size), start) for key in keys], 2
    )
    for i, half in enumerate(noise):
        e, _ = Gaussians(mean, factor).push(torch.cat([half, -half]))
        _, slope = joint.slope(e.to(start))
        share = max(1 / (i + 1), LONGEST)
        precision = (1 - share) * precision + share * joint.curvature(e.to(start))
        factor = inverse_factor(precision)
        along = torch.einsum("bji,bj->bi", factor, slope.double().mean(0).nan_to_num(0, 0, 0))
        along = along * (math.sqrt(joint.size) / along.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        length = 0.5 if i < effort.rounds - 2 else 0.25
        mean = mean + length * torch.einsum("bij,bj->bi", factor, along)
    mean, factor = _better(joint, Gaussians(mean, factor), first, keys)
    return Gaussians(mean, widened(factor))


def _better(joint: Joint, one: Gaussians, other: Gaussians, keys: list[bytes]) -> Gaussians:
    """The Gaussian with the higher ELBO for each image, on samples that no fit has used."""
    noise = torch.stack([normal(key, DECIDING, (PILOTS, joint.size), joint.x) for key in keys], 1)
    bounds = []
    for q in (one, other):
        e, log_q = q.push(noise)
        bounds.append((joint.log(e.to(joint.x)).double() - log_q).mean(0).nan_to_num(-math.inf, -math.inf, -math.inf))
    better = bounds[0] >= bounds[1]
    mean = torch.where(better[:, None], one.mean, other.mean)
    return Gaussians(mean, torch.where(better[:, None, None], one.factor, other.factor))


def _mode(joint: Joint, noise: Tensor, steps: int) -> Tensor:
    """Damped Gauss–Newton ascent of log p(x, ε) from ε (b, d): the best of five step lengths, never downwards."""
    lengths = noise.new_tensor(HALVINGS)[:, None, None]
    each = torch.arange(len(noise), device=noise.device)
    height = joint.log(noise[None])[0]
    for _ in range(steps):
        _, slope = joint.slope(noise[None])
        factor = inverse_factor(joint.curvature(noise[None]))
        step = torch.einsum("bij,bkj,bk->bi", factor, factor, slope[0].double())
        tried = noise + lengths * step.to(noise)
        heights, best = joint.log(tried).nan_to_num(-math.inf, -math.inf, -math.inf).max(0)
        better = heights > height
        noise = torch.where(better[:, None], tried[best, each], noise)
        height = torch.where(better, heights, height)
    return noise


def normal(key: bytes, stream: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal noise, drawn in float64 so that it is the same for a model in single precision."""
    start_noise(key, stream, like.device)
    return torch.randn(shape, dtype=torch.float64, device=like.device)


def log_weights(joint: Joint, model: LatentModel, q: Gaussians, keys: list[bytes], k: int, score: Score) -> Tensor:
    """log p(ε) + log p(x|T(ε)) − log q*(ε) of k fresh samples of each image, nats, float64 (k, b).

    Args:
        joint: of the images.
        model: the one for these images, for `score`.
        q: their proposals.
        keys: of their noise.
        k: samples.
        score: a `scorer`.
    """
    rows = max(1, VALUES.get(joint.x.device.type, VALUES["cuda"]) // joint.x.numel())
    log_w = []
    for done in range(0, k, BLOCK):
        shape = (min(BLOCK, k - done), joint.size)
        noise = torch.stack([normal(key, SCORING + done // BLOCK, shape, joint.x) for key in keys], 1)
        for some in noise.split(rows):
            e, log_q = q.push(some)
            z, log_p, _ = joint.map(e.to(joint.x))
            log_w.append(log_p.double() + score(z, joint.x, model).double() - log_q)
    return torch.cat(log_w)


def summarise(log_w: Tensor) -> RefinedEstimates:
    """The estimates from log weights (K, n)."""
    k = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(k)
    change = torch.full_like(bound, math.nan)
    if tenth := k // TENTHS:
        parts = log_w[: tenth * TENTHS].unflatten(0, (TENTHS, tenth))
        change = bound - (torch.logsumexp(parts, 1) - math.log(tenth)).mean(0)
    return RefinedEstimates(bound, effective_size(log_w), pareto_k(largest(log_w), k), *jackknife(log_w), change)
