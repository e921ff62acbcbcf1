"""The Hamiltonian VAE."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Draw, Family, Step
from vaebench.errors import UserError
from vaebench.posteriors.hamiltonian import Hamiltonian
from vaebench.ranges import AMOUNT, INSIDE, POSITIVE
from vaebench.traits import EUCLIDEAN, PosteriorTraits


@final
class HamiltonianVAE(Family):
    r"""Hamiltonian VAE: K tempered leapfrog steps move the encoder's samples towards the exact posterior.

    .. math:: L(x) = E\Big[\log p(x, z_K) + \log N(\rho_K; 0, I) - \log q(z_0|x) - \log N(\rho_0; 0, I/\beta_0)
              + \tfrac{n}{2} \log \beta_0\Big] \le \log p(x), \quad (z_K, \rho_K) = \Phi_K(z_0, \rho_0)

    with z_0 ~ q(z|x), a momentum ρ_0 ~ N(0, I/β_0) and n latents. The steps keep volume, their cooling shrinks it by
    β_0^{n/2}: the bracket is the logarithm of a weight whose mean is p(x), so that training, selection and the estimate
    of log p(x) all weigh pairs (z, ρ). Gradients pass through the steps; without any it is the VAE. Nats per image.

    Reference:
        Caterini, Doucet & Sejdinovic 2018, Hamiltonian variational auto-encoder, https://arxiv.org/abs/1805.11328.

    Args:
        data: shape, measure and mean of the images.
        steps: K ≥ 0.
        pace: the steps' size ε at the start, which learns for every latent.
        limit: the largest ε.
        beta: β_0 in (0, 1) at the start, which learns too.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`. The posterior gives z_0.

    Raises:
        UserError: the latents are no real numbers to move through, or a setting lies outside its range.
    """

    RANGES = {"steps": AMOUNT, "pace": POSITIVE, "limit": POSITIVE, "beta": INSIDE}

    NEUTRAL = {"steps": 0}

    def __init__(
        self,
        data: DataSpec,
        steps: int = 5,
        pace: float = 0.2,
        limit: float = 0.5,
        beta: float = 2 / 3,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        if (space := PosteriorTraits.of(self.posterior).space) != EUCLIDEAN:
            raise UserError(
                f"HamiltonianVAE moves latents through Euclidean space, and {type(self.posterior).__name__} lives on "
                f"{space}; set model.posterior to vaebench.posteriors.DiagonalGaussian"
            )
        self.posterior = Hamiltonian(self.posterior, self.prior, self.likelihood, steps, pace, limit, beta)

    def draw(self, x: Tensor, k: int = 1) -> Draw:
        z, log_q = self.posterior(x).rsample_and_log_prob((k,))  # log_q has the momenta's share in it
        return Draw(z, log_q, self.prior().log_prob(z), self.likelihood(z).log_prob(x))

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        drawn = self.draw(x)  # (1, b)
        bound, rate = drawn.log_w.mean(), (drawn.log_q - drawn.log_p).mean()
        logs = {"elbo": bound, "rate": rate, "distortion": -drawn.log_x.mean()}
        return Step({"model": -bound}, logs | {"pace": self.posterior.pace.mean(), "beta": self.posterior.beta})
