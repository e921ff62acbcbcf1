"""Samples moved by Hamiltonian dynamics, together with a momentum."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import SampleShape
from vaebench.errors import Unavailable

Slope = Callable[[Tensor], Tensor]  # z -> the gradient of log p(x, z), like z
Phase = tuple[Tensor, Tensor]  # z and its momentum ρ, alike


def leapfrog(z: Tensor, momentum: Tensor, here: Tensor, slope: Slope, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""One leapfrog step, which preserves volume and is reversed by the same step with −ρ'.

    .. math:: \tilde\rho = \rho + \tfrac{\epsilon}{2} \nabla \log p(x, z), \quad z' = z + \epsilon \tilde\rho, \quad
              \rho' = \tilde\rho + \tfrac{\epsilon}{2} \nabla \log p(x, z')

    Args:
        z, momentum: (*batch, n).
        here: the gradient at z.
        slope: the gradient as a function of z.
        step: ε of each unit, (n,).

    Returns:
        z', ρ' and the gradient at z'.
    """
    half = momentum + step / 2 * here
    z = z + step * half
    there = slope(z)
    return z, half + step / 2 * there, there


def tempering(beta: Tensor, steps: int) -> Tensor:
    r"""√β_0 … √β_K of the quadratic schedule, 1/√β_k = (1 − 1/√β_0) k²/K² + 1/√β_0, which ends at 1: (K + 1,).

    Args:
        beta: β_0 in (0, 1], 0-dim.
        steps: K ≥ 1.
    """
    passed = (torch.arange(steps + 1, dtype=beta.dtype, device=beta.device) / steps).square()
    start = beta.rsqrt()
    return 1 / ((1 - start) * passed + start)


def tempered_leapfrogs(z: Tensor, momentum: Tensor, slope: Slope, step: Tensor, roots: Tensor) -> Phase:
    r"""K leapfrog steps, after each of which the momentum cools: ρ_k = √(β_{k−1}/β_k) ρ'.

    The determinant of the whole map of (z, ρ) is β_0^{n/2}.

    Args:
        z, momentum: (*batch, n).
        slope: the gradient of log p(x, z).
        step: ε of each unit, (n,).
        roots: √β_0 … √β_K = 1, (K + 1,).
    """
    here = slope(z)
    for before, after in pairwise(roots.unbind()):
        z, momentum, here = leapfrog(z, momentum, here, slope, step)
        momentum = before / after * momentum
    return z, momentum


class HamiltonianPosterior(Distribution):
    r"""z_K: a sample of q(z_0) moved along with a momentum by an invertible map of both, (z_K, ρ_K) = Φ(z_0, γ/√β_0).

    .. math:: z_0 \sim q, \quad \gamma \sim N(0, I), \quad |\det \partial \Phi| = \beta_0^{n/2}

    The density of z_K alone is an intractable integral over momenta. It is scored together with the momentum, against
    the target p(x, z) N(ρ; 0, I), whose integral over ρ is p(x, z).

    Args:
        base: q(z_0), (*batch) of (n,).
        move: Φ including the scale of the initial momentum: (z_0, γ) -> (z_K, ρ_K), of determinant 1; None leaves z_0.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Distribution, move: Callable[[Tensor, Tensor], Phase] | None) -> None:
        self.base, self.move = base, move
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: SampleShape = ()) -> tuple[Tensor, Tensor]:
        r"""Samples of z_K, (*sample, *batch, n), and their score against p(x, z), nats, (*sample, *batch).

        .. math:: \log \frac{q(z_0)\,N(\rho_0; 0, I/\beta_0)}{N(\rho_K; 0, I)\,|\det \partial \Phi|}
                  = \log q(z_0) + \tfrac12 \|\rho_K\|^2 - \tfrac12 \|\gamma\|^2

        p(x, z_K) divided by its exponential is a weight whose mean is p(x).
        """
        start = self.base.rsample(torch.Size(sample_shape))
        log_q = self.base.log_prob(start)
        if self.move is None:
            return start, log_q
        noise = torch.randn(start.shape, dtype=start.dtype, device=start.device)
        z, momentum = self.move(start, noise)
        return z, log_q + (momentum.square() - noise.square()).sum(-1) / 2

    def log_prob(self, value: Tensor) -> Tensor:
        if self.move is None:
            return self.base.log_prob(value)
        raise Unavailable(
            "z that Hamiltonian steps have moved has no density of its own, only one together with its momentum"
        )
