"""The VAE whose encoder's output is refined for every image."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import units
from vaebench.errors import Unavailable, UserError, absence
from vaebench.posteriors.refined import Refined
from vaebench.ranges import AMOUNT, POSITIVE


@final
class SemiAmortisedVAE(Family):
    r"""Semi-amortised VAE: the encoder says where q(z|x) starts, and K gradient steps on the bound go on from there.

    .. math:: \lambda_0 = f_\phi(x), \quad \lambda_{k+1} = \lambda_k + \alpha\,\nabla_\lambda L(\lambda_k; x), \quad
              \max_{\phi, \theta} L(\lambda_K; x), \quad
              L(\lambda; x) = E_{q_\lambda(z)}[\log p(x|z)] - KL(q_\lambda(z) \| p(z))

    The derivative goes through the steps, so that the encoder learns a good start. Evaluation refines too, with noise
    that is kept; see `posteriors.refined.Refined`. The ELBO of the refined posterior. Nats per image.

    Reference:
        Kim, Wiseman, Miller, Sontag & Rush 2018, https://arxiv.org/abs/1802.02550.

    Args:
        data: shape, measure and mean of the images.
        steps: K ≥ 0.
        rate: α > 0.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`. The posterior starts the steps.

    Raises:
        UserError: the posterior is no diagonal Gaussian.
    """

    RANGES = {"steps": AMOUNT, "rate": POSITIVE}

    def __init__(self, data: DataSpec, steps: int = 5, rate: float = 0.1, **parts: Any) -> None:
        super().__init__(data, **parts)
        self._check_gaussian()
        self.posterior = Refined(self.posterior, self.prior, self.likelihood, steps, rate)

    def _check_gaussian(self) -> None:
        try:
            with torch.no_grad(), absence():
                start = units("posterior", self.posterior(torch.zeros(1, *self.data.shape)))
            if not isinstance(start, torch.distributions.Normal):
                raise Unavailable(f"the posterior's units are {type(start).__name__}")
        except Unavailable as error:
            raise UserError(
                f"SemiAmortisedVAE refines means and standard deviations, and {error}; set model.posterior to "
                "vaebench.posteriors.DiagonalGaussian"
            ) from None

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        return Step({"model": -terms.elbo.mean()}, terms.logs)
