"""Hamiltonian Monte Carlo along a path of densities of z, for many images and chains at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import constraints

from vaebench.core import LatentModel
from vaebench.core.compatibility import not_euclidean
from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import declared, start_noise
from vaebench.evaluation.estimators.draws import sample
from vaebench.traits import LikelihoodTraits

BLOCK = 16  # transitions per seeding of an image's noise; part of the definition of a seed
TARGET = 0.65  # most efficient acceptance probability of HMC (Neal 2011, section 5.4.4.3)
JITTER = 0.2  # relative range of each transition's step size, which prevents periodic trajectories
PILOTS = 4  # chains per image that only tune step sizes
STRIDE = 4  # pilots visit every fourth temperature
RATE = 0.3  # change of a log step size per unit of acceptance
MEMORY = 0.9  # weight of the past in a running mean

ChainStart = Literal["prior", "posterior"]


class ChainState(NamedTuple):
    """Positions of chains with the terms of log f_β = base + β gain there.

    Attributes:
        z: (c, b, *latent), c chains of each of b images.
        base: log f_0(z), nats, (c, b).
        gain: log p(x, z) − log f_0(z), nats, (c, b).
        base_slope: its gradient in z, like z.
        gain_slope: its gradient in z, like z.
    """

    z: Tensor
    base: Tensor
    gain: Tensor
    base_slope: Tensor
    gain_slope: Tensor

    def level(self, beta: float) -> Tensor:
        """log f_β(z), nats, (c, b)."""
        return self.base + beta * self.gain

    def slope(self, beta: float) -> Tensor:
        """Its gradient in z, like z."""
        return torch.add(self.base_slope, self.gain_slope, alpha=beta)


class Anneals(Protocol):
    """A path of densities."""

    def at(self, z: Tensor) -> ChainState:
        """The path at z (c, b, *latent), with gradients."""


class GeometricPath:
    """The geometric path log f_β(z) = (1 − β) log f_0(z) + β log p(x, z), from the prior or from q(z|x).

    Args:
        model: anything with a prior and a likelihood, and, to start there, a posterior that has a density.
        x: images, (b, *data), on the model's device.
        start: f_0, 'prior' or 'posterior'.
    """

    def __init__(self, model: LatentModel, x: Tensor, start: ChainStart = "prior") -> None:
        self.prior, self.likelihood, self.x = model.prior(), model.likelihood, x
        with torch.no_grad():
            self.first = model.posterior(x) if start == "posterior" else None

    def at(self, z: Tensor) -> ChainState:
        """The path at z (c, b, *latent), with gradients: one forward and backward pass through the likelihood."""
        z = z.detach().requires_grad_()
        base, gain = self.prior.log_prob(z), self.likelihood(z).log_prob(self.x)
        if self.first is not None:
            first = self.first.log_prob(z)
            base, gain = first, base + gain - first
        (base_slope,) = torch.autograd.grad(base.sum(), z, retain_graph=self.first is not None)
        (gain_slope,) = torch.autograd.grad(gain.sum(), z)
        return ChainState(z.detach(), base.detach(), gain.detach(), base_slope, gain_slope)


def require_chains(model: LatentModel, x: Tensor, start: ChainStart = "prior") -> None:
    """Requires that chains can move in this model's latents; for images x (n, *data) on its device.

    Raises:
        Unavailable: they cannot.
    """
    prior = model.prior()
    support: Any = None
    with suppress(Unavailable), absence("the prior does not declare its support"):
        support = prior.support
    while isinstance(support, constraints.independent | constraints.MixtureSameFamilyConstraint):
        support = support.base_constraint
    if space := not_euclidean(declared(model).prior):
        raise Unavailable(f"the prior lives on {space}, and Hamiltonian Monte Carlo moves through all real numbers")
    if LikelihoodTraits.of(declared(model).likelihood).averaged:
        raise Unavailable(
            "with gradients, what stands for log p(x|z) does so only in the mean, and chains would keep lucky draws"
        )
    if support not in (None, constraints.real, constraints.real_vector):
        raise Unavailable(f"the prior has support {support!r}, and Hamiltonian Monte Carlo moves through real numbers")
    lacking = absence("the prior, the likelihood or the start of the path has no density")
    try:
        with torch.inference_mode(False), torch.enable_grad(), lacking:
            z = first_points(model, x[:1].clone(), start, 1)
            if not z.is_floating_point():
                raise Unavailable("the prior is discrete, and Hamiltonian Monte Carlo moves through real numbers")
            GeometricPath(model, x[:1].clone(), start).at(z)
    except RuntimeError as error:
        if "does not require grad" in str(error) or "not have been used in the graph" in str(error):
            reason = "p(z) or p(x|z) has no gradient in z, which Hamiltonian Monte Carlo follows"
            raise Unavailable(reason) from error
        raise


def first_points(model: LatentModel, x: Tensor, start: ChainStart, chains: int) -> Tensor:
    """Samples of f_0 for one image x (1, *data): (chains, 1, *latent)."""
    with torch.no_grad():
        if start == "prior":
            return sample(model.prior(), chains).unsqueeze(1)
        return sample(model.posterior(x), chains)


class TransitionNoise(NamedTuple):
    """Noise of one transition: momenta like z; log-uniform thresholds and uniform jitter in [−1, 1], (c, b)."""

    momentum: Tensor
    threshold: Tensor
    jitter: Tensor


def transition_noise(keys: list[bytes], stream: int, count: int, like: Tensor) -> Iterator[TransitionNoise]:
    """The noise of `count` transitions of chains like z (c, b, *latent), each image's from its own key.

    Args:
        keys: of the b images' noise.
        stream: number of the first block; streams 2³² apart do not overlap.
        count: number of transitions.
        like: a tensor of the wanted shape, device and precision.
    """
    chains, _, *latent = like.shape
    for done in range(0, count, BLOCK):
        momenta, uniforms = [], []
        for key in keys:
            start_noise(key, stream + done // BLOCK, like.device)
            momenta.append(torch.randn(BLOCK, chains, *latent, dtype=like.dtype, device=like.device))
            uniforms.append(torch.rand(BLOCK, 2, chains, dtype=like.dtype, device=like.device))
        thresholds, jitter = torch.stack(uniforms, 3).unbind(1)
        steps = zip(torch.stack(momenta, 2), thresholds.log(), 2 * jitter - 1, strict=True)
        for _, step in zip(range(count - done), steps, strict=False):
            yield TransitionNoise(*step)


def move(
    at: Callable[[Tensor], ChainState],
    here: ChainState,
    beta: float,
    step: Tensor,
    leapfrog: int,
    noise: TransitionNoise,
) -> tuple[ChainState, Tensor]:
    """One transition that leaves f_β invariant, with as many gradients as leapfrog steps.

    Neal 2011, MCMC using Hamiltonian dynamics (https://arxiv.org/abs/1206.1901). A trajectory that overflows is
    rejected.

    Args:
        at: the path.
        here: states of the chains.
        beta: β.
        step: step size in every direction, (b, *latent).
        leapfrog: number of steps.
        noise: of the transition.

    Returns:
        The new states, and each chain's acceptance probability, (c, b).
    """
    events = (1,) * (here.z.dim() - 2)
    size = step * (1 + JITTER * noise.jitter.unflatten(-1, (-1, *events)))
    momentum = torch.addcmul(noise.momentum, size, here.slope(beta), value=0.5)
    there = here
    for left in reversed(range(leapfrog)):
        z = torch.addcmul(there.z, size, momentum)
        there = at(z.nan_to_num_(0, 0, 0))
        momentum = torch.addcmul(momentum, size, there.slope(beta), value=1.0 if left else 0.5)
    kinetic = (noise.momentum.square() - momentum.square()).flatten(2).sum(2) / 2
    rise = there.level(beta) - here.level(beta) + kinetic
    accept = noise.threshold < rise  # False where the rise is NaN
    chosen = (torch.where(accept.reshape(*accept.shape, *events) if a.dim() > 2 else accept, a, b)
              for a, b in zip(there, here, strict=True))  # fmt: skip
    return ChainState(*chosen), rise.clamp(max=0).exp().nan_to_num(0)


def tune(path: Anneals, z: Tensor, betas: Tensor, leapfrog: int, noise: Iterator[TransitionNoise]) -> Tensor:
    r"""Step sizes for every temperature, image and direction, tuned by separate pilot chains.

    Since they are fixed before the estimating chains start, the transitions leave their densities invariant and the
    estimates stay unbiased. Along direction j a step is proportional to the posterior's width, from the mean curvature,

    .. math:: E_{f_\beta}[(\partial_j \log f_\beta)^2]^{-1/2}
        = E_{f_\beta}[-\partial_j^2 \log f_\beta]^{-1/2},

    and its length, one per image, is driven to an acceptance probability of `TARGET`.

    Args:
        path: the path.
        z: starts of the pilot chains, (PILOTS, b, *latent).
        betas: β_0 = 0 to β_T = 1, (T + 1,).
        leapfrog: steps per transition.
        noise: of the pilot's transitions, ⌈T / STRIDE⌉ of them.

    Returns:
        (T, b, *latent).
    """
    here = path.at(z)
    events = (1,) * (z.dim() - 2)
    square = here.slope(0).square().mean(0)
    curvature = square.flatten(1).mean(1).reshape(-1, *events).expand_as(square)  # one per image: few chains as yet
    length = torch.full_like(square.flatten(1)[:, 0], 0.5).reshape(-1, *events)
    steps = []
    for beta, draws in zip(betas[1::STRIDE].tolist(), noise, strict=True):
        step = length * curvature.clamp(min=1e-12).rsqrt()
        steps.append(step)
        here, accepted = move(path.at, here, beta, step, leapfrog, draws)
        length = length * torch.exp(RATE * (accepted.mean(0).reshape(-1, *events) - TARGET))
        square = here.slope(beta).square().mean(0).nan_to_num(1, 1, 1)
        curvature = MEMORY * curvature + (1 - MEMORY) * square
    return torch.stack(steps).repeat_interleave(STRIDE, 0)[: len(betas) - 1]
