"""The top-down residual variational autoencoder, in the manner of NVAE and the very deep VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import Conditional, DataSpec, Draw, Family, Shape, Step
from vaebench.distributions.hierarchy import named_levels
from vaebench.functional.objectives import balanced, elbo
from vaebench.likelihoods import natural
from vaebench.networks.ema import Averages
from vaebench.networks.residual import Readout
from vaebench.posteriors.residual import ResidualEncoder
from vaebench.priors import PriorFactory
from vaebench.priors.residual import ResidualDecoder
from vaebench.ranges import DECAY, POSITIVE
from vaebench.schedules import Constant, Schedule


@final
class TopDownVAE(Family):
    r"""Top-down residual VAE: many levels of latent maps, from coarse to fine, along one residual network.

    .. math:: L(x) = E_q[\log p(x|h_0)] - s(t) \sum_i \gamma_i\,E_q\big[KL(q(z_i|z_{>i}, x) \| p(z_i|z_{>i}))\big]

    While s < 1, γ balances the levels (NVAE), so that none is switched off early; at s = 1, γ = 1 and L is the ELBO.
    Steps with a gradient above `skip` are left out and counted (VDVAE). Averaged weights select and are kept. Nats.

    Reference:
        Vahdat & Kautz 2020, https://arxiv.org/abs/2007.03898; Child 2021, https://arxiv.org/abs/2011.10650.

    Args:
        data: shape, measure and mean of the images.
        schedule: s(t) in [0, 1] as a function of the optimiser step t.
        decay, skip, latent: of the averages, in [0, 1); largest norm of a gradient; channels of every level's map.
        posterior, prior, parts: see `Family`. Sizes are the posterior's; the likelihood's network is a `Readout`.
    """

    RANGES = {"decay": DECAY, "skip": POSITIVE}

    POSTERIOR, PRIOR = ResidualEncoder, ResidualDecoder
    decay: Tensor

    def __init__(
        self,
        data: DataSpec,
        schedule: Schedule | None = None,
        decay: float = 0.999,
        skip: float = 1e4,
        latent: int = 4,
        posterior: Callable[[Shape, Shape], Conditional] = ResidualEncoder,
        prior: PriorFactory = ResidualDecoder,
        **parts: Any,
    ) -> None:
        parts["likelihood"] = parts.get("likelihood") or partial(natural(data), net=Readout)
        super().__init__(data, latent=latent, posterior=posterior, prior=prior, **parts)
        self.schedule = schedule or Constant()
        self.hyper(decay=decay, skip=skip, skipped=0)
        self.average = Averages(self)

    def averages(self) -> Mapping[str, Tensor]:
        return self.average.weights()

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        down, pull = self.posterior.descend(x), self.schedule(t)
        distortion = -self.likelihood.forward(down.end).log_prob(x).mean()  # the state is at hand: no second pass
        rate = (rates := down.rates.mean((0, 1))).sum()  # (levels,)
        paid = torch.where(pull < 1, balanced(rates, self.posterior.sizes), rate)
        logs = {"elbo": elbo(distortion, rate), "rate": rate, "skipped": self.get_buffer("skipped")}
        averages = self.average.moved(dict(self.named_parameters()), self.decay, t, "average")
        return Step({"model": distortion + pull * paid}, logs | named_levels("rate", down.rates), averages)

    def draw(self, x: Tensor, k: int = 1) -> Draw:
        z, log_q, log_p, _, end = self.posterior.descend(x, k)
        return Draw(z, log_q.sum(-1), log_p.sum(-1), self.likelihood.forward(end).log_prob(x))
