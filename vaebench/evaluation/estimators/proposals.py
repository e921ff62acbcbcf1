"""Gaussian proposals fitted to each image, in the noise of the prior's map: a mode, then the ELBO, then wider."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import device_and_dtype, for_images, noise_keys, start_noise
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.estimators.gaussians import Gaussians, inverse_factor, normal, widened
from vaebench.evaluation.estimators.joint import Joint
from vaebench.evaluation.estimators.likelihood import VALUES

HALVINGS = (1.0, 0.5, 0.25, 0.1, 0.03)  # trial lengths of a Gauss–Newton step
LONGEST = 0.25  # least weight of the newest curvature in the running mean
PILOTS = 32  # samples that decide whether the rounds improved the fit
STARTING, FITTING, DECIDING = ((i + 32) << 32 for i in (0, 1, 3))  # streams of an image's noise


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


class Group(NamedTuple):
    """Images that are fitted together.

    Attributes:
        joint: p(x, ε) of them.
        model: the one for them.
        keys: of their noise.
        first: index of the first of them.
    """

    joint: Joint
    model: LatentModel
    keys: list[bytes]
    first: int

    def only(self, index: Tensor) -> Group:
        """Some of the images, by their places (m,); `first` stays."""
        part = for_images(self.model, index)
        keys = [self.keys[i] for i in index.tolist()]
        return Group(Joint(part, self.joint.x[index]), part, keys, self.first)


def groups(model: LatentModel, x: Tensor, seed: int, effort: Effort, batch: int | None = None) -> Iterator[Group]:
    """Images x (n, *data) in small groups; call it inside `differentiable`."""
    device, dtype = device_and_dtype(model, x)
    values = x[0].numel() * model.prior().event_shape.numel() * effort.samples
    size = batch or max(1, 2 * VALUES.get(device.type, VALUES["cuda"]) // values)
    for first in range(0, len(x), size):
        some, part = x[first : first + size], for_images(model, slice(first, first + size))
        yield Group(Joint(part, some.to(device, dtype).clone()), part, noise_keys(some, seed), first)


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
        e, _ = Gaussians(mean, factor).from_noise(torch.cat([half, -half]))
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
        e, log_q = q.from_noise(noise)
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
