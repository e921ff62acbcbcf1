"""The VQ-VAE with residual quantisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.distributions import divergence
from vaebench.objectives import elbo
from vaebench.posteriors.codes import ResidualQuantised
from vaebench.priors import PriorFactory
from vaebench.priors.codes import CodePrior, FactorisedCodes
from vaebench.quantisation import commitment


@final
class RVQVAE(Family):
    r"""Residual VQ-VAE: each of n vectors is a sum of l codes, each closest to what the ones before it leave over.

    .. math:: -\log p\Big(x \Big| \sum_j e_j\Big) + \beta \sum_{i, j} \big|r_{ij} - \mathrm{sg}[e_{ij}]\big|^2, \qquad
              r_{i1} = z_e(x)_i, \; r_{i,j+1} = r_{ij} - e_{ij}

    z holds all codes, and the decoder reads the sum of a place, whose gradient reaches z_e straight through. All else
    is as in the VQ-VAE; its prior is over n l codes. Nats an image.

    Reference:
        Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312; Lee et al. 2022, https://arxiv.org/abs/2203.01941.

    Args:
        data: shape, measure and mean of the images.
        commitment, decay, least, stage: see `VQVAE`.
        posterior, prior: build q(z|x) with its codebooks, where `latent` is n, and p(z) over the codes.
        parts: latent, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"commitment": 0.0}
    POSTERIOR, PRIOR, STRAIGHT_THROUGH = ResidualQuantised, CodePrior, ("posterior",)

    commitment: Tensor
    decay: Tensor
    least: Tensor
    stage: Tensor

    def __init__(
        self,
        data: DataSpec,
        commitment: float = 0.25,
        decay: float = 0.99,
        least: float = 0.05,
        stage: float = 0,
        posterior: Callable[[Shape, Shape], Conditional] = ResidualQuantised,
        prior: PriorFactory = FactorisedCodes,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, prior=prior, **parts)
        self.hyper(commitment=commitment, decay=decay, least=least, stage=stage)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("posterior", "likelihood"), "prior": ("prior",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"model": (self.stage == 0) | (t < self.stage), "prior": t >= self.stage}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, found = self.posterior.read(x)
        z = q.rsample((1,))  # (1, b, n l d)
        distortion = -self.likelihood(z).log_prob(x).mean(0)  # (b,)
        rate, committed = divergence(q, self.prior(), z), commitment(found)  # (b,) each
        bound = elbo(distortion, rate).mean()
        losses = {"model": self.commitment * committed.mean() - bound, "prior": rate.mean()}
        logs = {"elbo": bound, "rate": rate.mean(), "distortion": distortion.mean(), "commitment": committed.mean()}
        state = self.posterior.after(found, self.decay, self.least, t, self.active(t)["model"])
        return Step(losses, logs, state)
