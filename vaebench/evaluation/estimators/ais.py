"""log p(x) from both sides by annealed importance sampling, and a model's rate–distortion curve from the same chains.

It needs p(z), p(x|z) and its gradient in z, but no density of q. Noise is keyed by image, so that a result does not
depend on the other images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import UserError, unknown
from vaebench.evaluation.conditions import check_count, device_and_dtype, noise_keys, start_noise
from vaebench.evaluation.estimators.hmc import (
    PILOTS,
    STRIDE,
    Anneals,
    ChainStart,
    ChainState,
    GeometricPath,
    TransitionNoise,
    first_points,
    move,
    transition_noise,
    tune,
)
from vaebench.evaluation.estimators.likelihood import VALUES
from vaebench.evaluation.estimators.weights import effective_size

STEEPNESS = 4.0  # δ of the schedule, as in Wu et al. 2017
POINTS = 32  # intervals between the points of a rate–distortion curve
PILOT, UP, DOWN, SIMULATED = ((i + 1) << 32 for i in range(4))  # streams of an image's noise


class AnnealingSettings(NamedTuple):
    """Settings of annealing chains.

    Attributes:
        chains: per image.
        temperatures: T, transitions of a chain.
        leapfrog: steps of a transition.
        start: distribution at the start of the path: 'prior', or 'posterior', the model's q(z|x).

    Raises:
        UserError: by `checked`: a count below 1, or another start.
    """

    chains: int = 16
    temperatures: int = 400
    leapfrog: int = 3
    start: ChainStart = "prior"

    def checked(self) -> AnnealingSettings:
        """The same settings, once checked."""
        for name, value in (("chains", self.chains), ("temperatures", self.temperatures), ("leapfrog", self.leapfrog)):
            check_count(name, value)
        if self.start not in ("prior", "posterior"):
            raise unknown("start", str(self.start), ["prior", "posterior"])
        return self


class Chains(NamedTuple):
    """Estimates from the chains of each of n images, float64 on the CPU.

    Attributes:
        lower: log of the mean weight of the chains up, nats, (n,); its expectation is at most log p(x).
        upper: −log of the mean inverse weight of the chains down, nats, (n,); its expectation is at least log p(x).
            NaN without downward chains.
        ess: effective sample size of the upward weights, in [1, chains], (n,).
        acceptance: mean acceptance probability of the chains up, (n,).
        rate: upper bound on the rate at each β of `curve_betas`, nats, (n, points). NaN unless from the prior.
        distortion: −E log p(x|z) there, nats, (n, points). NaN unless from the prior.
    """

    lower: Tensor
    upper: Tensor
    ess: Tensor
    acceptance: Tensor
    rate: Tensor
    distortion: Tensor


def schedule(temperatures: int) -> Tensor:
    """β_0 = 0 < … < β_T = 1, float64 (T + 1,): a sigmoid of t, which is densest at both ends.

    Wu, Burda, Salakhutdinov & Grosse 2017 (https://arxiv.org/abs/1611.04273), with δ = 4.
    """
    t = torch.linspace(-1, 1, temperatures + 1, dtype=torch.float64)
    s = torch.sigmoid(STEEPNESS * t)
    return (s - s[0]) / (s[-1] - s[0])


def curve_steps(temperatures: int) -> list[int]:
    """Numbers of transitions at the points of the rate–distortion curve, from 0 to T."""
    return sorted({round(i * temperatures / POINTS) for i in range(POINTS + 1)})


def curve_betas(temperatures: int) -> list[float]:
    """β at these points."""
    return schedule(temperatures)[curve_steps(temperatures)].tolist()


def annealed(
    model: LatentModel,
    x: Tensor,
    settings: AnnealingSettings,
    seed: int = 0,
    z: Tensor | None = None,
    names: Sequence[int] | None = None,
) -> Chains:
    r"""Brackets log p(x) of every image by chains between f_0(z) and p(x, z); call it inside `evaluation_mode`.

    .. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{f_0(z_{t-1})}, \quad
        z_0 \sim f_0, \quad z_t \sim T_t(\cdot|z_{t-1})

    E[w] = p(x) where each T_t leaves f_{β_t} invariant, so that the log of a mean of weights is below log p(x) in
    expectation (Neal 2001, https://arxiv.org/abs/physics/9803008). From an exact sample of p(z|x) the same chains run
    down, E[1/w] = 1/p(x), and the log of their mean is above it (Grosse et al. 2015,
    https://arxiv.org/abs/1511.02543). Transitions are Hamiltonian, with step sizes from pilot chains.

    From the prior, chain states z_t after β = β_t are codes of x with distortion −E log p(x|z_t) and a rate of at most
    E[β log p(x|z_t) − log w_t] (Huang et al. 2020, https://arxiv.org/abs/2008.06653).

    Args:
        model: anything with the parts that `settings` need.
        x: images, (n, *data), on any device.
        settings: of the chains.
        seed: of the noise.
        z: an exact sample of p(z|x) of each image, (n, *latent); None runs no downward chains.
        names: of the images, for messages; default: their positions in x.

    Raises:
        UserError: a setting that cannot be used, or a weight that is not finite.
        Unavailable: a part has no density.
    """
    settings.checked()
    device, dtype = device_and_dtype(model, x)
    values = VALUES.get(device.type, VALUES["cuda"])
    size = max(1, values // (settings.chains * x[0].numel()))
    names, parts = names or range(len(x)), []
    for first in range(0, len(x), size):
        keys = noise_keys(x[first : first + size], seed)
        with torch.inference_mode(False), torch.enable_grad():
            images = x[first : first + size].to(device, dtype).clone()
            codes = None if z is None else z[first : first + size].to(device, dtype).clone()
            parts.append(_bracket(model, images, keys, settings, codes, names[first:]))
    return Chains(*(torch.cat(columns).double().cpu() for columns in zip(*parts, strict=True)))


def _bracket(
    model: LatentModel,
    x: Tensor,
    keys: list[bytes],
    settings: AnnealingSettings,
    z: Tensor | None,
    names: Sequence[int],
) -> Chains:
    count, leapfrog = settings.temperatures, settings.leapfrog
    path, betas = GeometricPath(model, x, settings.start), schedule(count)
    first = _starts(model, x, keys, PILOTS, PILOT, settings.start)
    pilots = transition_noise(keys, PILOT + 1, math.ceil(count / STRIDE), first)
    steps = tune(path, first, betas, leapfrog, pilots)
    first = _starts(model, x, keys, settings.chains, UP, settings.start)
    noise = transition_noise(keys, UP + 1, count, first)
    log_w, acceptance, rate, distortion = climb(path, first, betas, steps, leapfrog, noise)
    check_chains(log_w, names)
    if settings.start != "prior":
        rate, distortion = (torch.full_like(column, math.nan) for column in (rate, distortion))
    total = torch.logsumexp(log_w, 0)
    upper = torch.full_like(total, math.nan)
    if z is not None:
        last = z.expand(settings.chains, *z.shape)
        noise = transition_noise(keys, DOWN + 1, count, last)
        log_v = _descend(path, last, betas, steps, leapfrog, noise)
        check_chains(log_v, names)
        upper = math.log(settings.chains) - torch.logsumexp(-log_v, 0)
    return Chains(total - math.log(settings.chains), upper, effective_size(log_w), acceptance, rate, distortion)


def _starts(model: LatentModel, x: Tensor, keys: list[bytes], chains: int, stream: int, start: ChainStart) -> Tensor:
    """Samples of f_0, (chains, b, *latent), each image's from its own noise."""
    samples = []
    for image, key in zip(x, keys, strict=True):
        start_noise(key, stream, x.device)
        samples.append(first_points(model, image[None], start, chains))
    return torch.cat(samples, 1)


def climb(
    path: Anneals, z: Tensor, betas: Tensor, steps: Tensor, leapfrog: int, noise: Iterator[TransitionNoise]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From β = 0 to 1: log weights (c, b), mean acceptance (b,), rate and distortion (b, points)."""
    here = path.at(z)
    log_w, acceptance = torch.zeros_like(here.gain, dtype=torch.float64), torch.zeros_like(here.gain[0])
    points = [_point(here, 0.0, log_w)]
    taken, count = curve_steps(len(steps)), len(steps)
    for t, (step, draws) in enumerate(zip(steps, noise, strict=True), 1):
        beta = float(betas[t])
        log_w = log_w + (beta - float(betas[t - 1])) * here.gain.double()
        here, accepted = move(path.at, here, beta, step, leapfrog, draws)
        acceptance += accepted.mean(0) / count
        if t in taken:
            points.append(_point(here, beta, log_w))
    rate, distortion = (torch.stack(column, 1) for column in zip(*points, strict=True))
    return log_w, acceptance, rate, distortion


def _point(here: ChainState, beta: float, log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Rate and distortion (b,) of the chains' states as codes, on a path from the prior."""
    log_x = here.gain.double()
    return (beta * log_x - log_w).mean(0), -log_x.mean(0)


def _descend(
    path: GeometricPath, z: Tensor, betas: Tensor, steps: Tensor, leapfrog: int, noise: Iterator[TransitionNoise]
) -> Tensor:
    """From β = 1 to 0, the mirror image of `climb`: log weights (c, b)."""
    here = path.at(z)
    log_w = torch.zeros_like(here.gain, dtype=torch.float64)
    for t, draws in zip(range(len(steps), 0, -1), noise, strict=True):
        beta = float(betas[t])
        here, _ = move(path.at, here, beta, steps[t - 1], leapfrog, draws)
        log_w = log_w + (beta - float(betas[t - 1])) * here.gain.double()
    return log_w


def check_chains(log_w: Tensor, names: Sequence[int]) -> None:
    """Checks that weights (c, b) are finite; the UserError names the first image with one that is not."""
    wrong = ~torch.isfinite(log_w).all(0)
    if wrong.any():
        raise UserError(
            f"the chains of image {names[int(wrong.nonzero()[0])]} have a weight that is not finite, where log p(x|z) "
            "and log p(z) must be; look for diverged weights or a likelihood that excludes the image"
        )


def simulate(model: LatentModel, first: int, last: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples z ~ p(z), (m, *latent), and x ~ p(x|z), (m, *data); call it inside `evaluation_mode`.

    Args:
        model: anything with a prior and a likelihood that can be sampled.
        first: number of the first image; an image depends on its number and the seed alone.
        last: one past the last.
        seed: of the noise.
        device: of the model.
    """
    prior, codes, images = model.prior(), [], []
    for index in range(first, last):
        start_noise(seed.to_bytes(16, "little", signed=True), SIMULATED + index, device)
        codes.append(prior.sample(torch.Size((1,))))
        images.append(model.likelihood(codes[-1][None]).sample()[0])
    return torch.cat(codes), torch.cat(images)
