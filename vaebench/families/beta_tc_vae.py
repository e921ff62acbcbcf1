"""β-TCVAE: the three parts of the aggregate divergence, each with a weight of its own."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.errors import UserError
from vaebench.functional.objectives import elbo
from vaebench.functional.regularisers import Sampling, decompose, log_shares


@final
class BetaTCVAE(Family):
    r"""β-total-correlation VAE: the rate is split, and the part that ties latents to one another weighs β times.

    .. math:: E_q[\log p(x|z)] - \alpha\,I_q(x; z) - \beta\,KL\Big(q(z) \Big\| \prod_j q(z_j)\Big)
              - \gamma \sum_j KL(q(z_j) \| p(z_j)), \quad q(z) = \frac1N \sum_n q(z|x_n)

    The aggregate q(z) is estimated from the images of the batch; see `regularisers.log_shares`. The three parts of a
    sample sum to log q(z|x) − log p(z) whatever that estimate is, so α = β = γ = 1 is the ELBO. Weighted sampling makes
    each log q(·) too low by about log N, so the parts are logged far off; with stratified sampling they can be read.
    Nats per image.

    Reference:
        Chen, Li, Grosse & Duvenaud 2018, https://arxiv.org/abs/1802.04942.

    Args:
        data: shape, measure, mean and number N of the images.
        alpha, beta, gamma: weights of index-code mutual information, total correlation and dimension-wise KL, ≥ 0.
        sampling: 'weighted' as in the paper's experiments, or 'stratified', which is unbiased for q(z).
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`. Posterior and prior must factorise.

    Raises:
        UserError: the posterior or the prior does not factorise, or the number of images is not known.
    """

    NEUTRAL = {"alpha": 1.0, "beta": 1.0, "gamma": 1.0}

    alpha: Tensor
    beta: Tensor
    gamma: Tensor

    def __init__(
        self,
        data: DataSpec,
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        sampling: Sampling = "weighted",
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.require_units()
        if data.size is None:
            raise UserError("BetaTCVAE needs the number of training images; give data.size")
        self.size, self.sampling = data.size, sampling
        self.hyper(alpha=alpha, beta=beta, gamma=gamma)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior()
        z = q.rsample((1,))  # (1, b, latent)
        distortion = -self.likelihood(z).log_prob(x).mean(0)  # (b,)
        pairs = q.base_dist.log_prob(z.transpose(0, 1))  # (b, b, latent): latent j of sample i under image k
        shares = log_shares(len(x), self.size, self.sampling, z)
        parts = [part.mean() for part in decompose(pairs, p.log_prob(z[0]), shares)]
        rate = parts[0] + parts[1] + parts[2]
        weighted = self.alpha * parts[0] + self.beta * parts[1] + self.gamma * parts[2]
        logs = dict(zip(("information", "total_correlation", "dimension_kl"), parts, strict=True))
        bounds = {"elbo": elbo(distortion.mean(), rate), "rate": rate, "distortion": distortion.mean()}
        return Step({"model": distortion.mean() + weighted}, bounds | logs)
