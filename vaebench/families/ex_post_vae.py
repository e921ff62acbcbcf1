"""The VAE whose prior is fitted to its codes afterwards."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import divergence
from vaebench.errors import UserError
from vaebench.priors import PriorFactory, StandardNormal
from vaebench.priors.mixture import MixtureOfGaussians


@final
class ExPostVAE(Family):
    r"""Ex-post density estimation: a VAE with a standard normal prior, then, with it at rest, a prior of its codes.

    .. math:: t < T: \; \max_{\phi, \theta} E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \| N(0, I)), \qquad
              t \ge T: \; \max_\psi E_{q(z|x)}[\log p_\psi(z)]

    The second is the maximum likelihood of samples of the aggregate q(z), by a mixture of Gaussians or a flow
    (`priors.flows`). What is evaluated has the fitted prior all along; its bound selects. Nats per image.

    Reference:
        Ghosh et al. 2020, From variational to deterministic autoencoders, https://arxiv.org/abs/1903.12436.

    Args:
        data: shape, measure and mean of the images.
        pretrain: T, training steps of the first stage.
        prior: builds p_ψ(z), which must have parameters.
        parts: latent, posterior, likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: the prior has nothing to learn.
    """

    NEUTRAL, STAGES = None, ("pretrain",)

    pretrain: Tensor

    def __init__(
        self, data: DataSpec, pretrain: float = 4000, prior: PriorFactory = MixtureOfGaussians, **parts: Any
    ) -> None:
        super().__init__(data, prior=prior, **parts)
        if not list(self.prior.parameters()):
            raise UserError(
                f"ExPostVAE fits its prior to the codes, and {type(self.prior).__name__} has no parameters; set "
                "model.prior to vaebench.priors.mixture.MixtureOfGaussians or a flow"
            )
        self.first = StandardNormal(tuple(self.prior().event_shape))  # p(z) of the first stage
        self.hyper(pretrain=pretrain)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("posterior", "likelihood"), "prior": ("prior",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"model": t < self.pretrain, "prior": t >= self.pretrain}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q = self.posterior(x)
        z = q.rsample((1,))  # (1, b, latent)
        distortion = -self.likelihood(z).log_prob(x).mean(0)  # (b,)
        rate = divergence(q, self.first(), z)  # (b,)
        codes = -self.prior().log_prob(z).mean()
        logs = {"first_rate": rate.mean(), "distortion": distortion.mean(), "codes": codes}
        return Step({"model": (distortion + rate).mean(), "prior": codes}, logs)
