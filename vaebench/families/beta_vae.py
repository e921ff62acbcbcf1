"""The β-VAE, with a warm-up and free bits."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step, Terms
from vaebench.core.compatibility import require_groups
from vaebench.distributions import divergence_units
from vaebench.functional.objectives import elbo, free_bits
from vaebench.schedules import Constant, Schedule


@final
class BetaVAE(Family):
    r"""β-VAE: the rate weighs β, which may be warmed up, and no group of latent units gains by a rate below λ.

    .. math:: L(x) = E_{q(z|x)}[\log p(x|z)] - \beta\,s(t) \sum_j \max\big(\lambda,\; KL(q(z_j|x) \| p(z_j))\big)

    With free bits the rate of group j is averaged over the batch before the maximum is taken, as in the paper, or
    (`average` off) of each image alone, which also stops the gradient of images that write less than the others. The
    groups of a hierarchy are its levels. The ELBO at β = s = 1 and λ = 0; a bound on log p(x) for β s ≥ 1. Nats.

    Reference:
        Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl; warm-up: Bowman et al. 2016,
        https://arxiv.org/abs/1511.06349; free bits: Kingma et al. 2016, appendix, https://arxiv.org/abs/1606.04934.

    Args:
        data: shape, measure and mean of the images.
        beta: β ≥ 0.
        schedule: s(t) in [0, 1] as a function of the optimiser step t.
        free_bits: λ ≥ 0, nats a group; None has none, and takes q and p that do not factorise.
        groups: number of groups of neighbouring units, a divisor of their number; None makes every unit one.
        average: whether the maximum is taken of the batch's mean.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: with free bits, the units do not divide into the groups, or q or p does not factorise over them.
    """

    NEUTRAL = {"beta": 1.0, "free_bits": None}

    beta: Tensor
    free_bits: Tensor | None

    def __init__(
        self,
        data: DataSpec,
        beta: float = 4.0,
        schedule: Schedule | None = None,
        free_bits: float | None = None,
        groups: int | None = None,
        average: bool = True,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.schedule, self.average = schedule or Constant(), average
        self.hyper(beta=beta)
        if free_bits is None:
            self.free_bits = None
        else:
            self.hyper(free_bits=free_bits)
            self.shape = require_groups(self, groups)

    def rate_paid(self, terms: Terms) -> Tensor:
        """Σ_j max(λ, KL_j), nats, (b,), or 0-dim where it is the batch's mean; without free bits the rate."""
        if self.free_bits is None:
            return terms.rate
        units = divergence_units(terms.q, terms.p) if terms.levels is None else terms.levels.mean(0)
        rates = units.unflatten(-1, self.shape).sum(-1)  # (b, groups)
        return free_bits(rates.mean(0) if self.average else rates, self.free_bits)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms, beta = self.terms(x, y), self.beta * self.schedule(t)
        paid = self.rate_paid(terms)
        loss = -elbo(terms.distortion, paid, beta).mean()
        return Step({"model": loss}, terms.logs | {"beta": beta, "rate_paid": paid.mean()})
