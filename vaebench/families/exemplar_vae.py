"""The exemplar VAE."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import divergence
from vaebench.errors import UserError
from vaebench.functional.objectives import elbo
from vaebench.priors import PriorFactory
from vaebench.priors.exemplar import ExemplarPrior


@final
class ExemplarVAE(Family):
    r"""Exemplar VAE: a prior around the codes of training images, from which each image leaves itself out.

    .. math:: \max E_{q(z|x)}\Big[\log p(x|z) + \log \frac{1}{|U \setminus x|} \sum_{u \in U \setminus x}
              N(z; \mu(u), \sigma^2 I) - \log q(z|x)\Big]

    with U the exemplars. Else an exemplar's own component would stand on its code, a prior that costs nothing and
    teaches nothing. Of an image that is no exemplar it is the ELBO, which is what is evaluated of every image, under
    the mixture of all of U. Nats per image.

    Reference:
        Norouzi, Fleet & Norouzi 2020, Exemplar VAE, https://arxiv.org/abs/2004.04795.

    Args:
        data: shape, measure, mean and examples of the images.
        leave_out: whether an image leaves itself out. It is known by its pixels, so that it cannot where training draws
            them anew: None does wherever they stay as they are, as static MNIST's do and MNIST's do not.
        prior: builds p(z), an `ExemplarPrior`.
        parts: latent, posterior, likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: `leave_out` is set, and the data draws its training images anew.
    """

    PRIOR = ExemplarPrior

    def __init__(
        self, data: DataSpec, leave_out: bool | None = None, prior: PriorFactory = ExemplarPrior, **parts: Any
    ) -> None:
        super().__init__(data, prior=prior, **parts)
        if leave_out and data.redrawn:
            raise UserError(
                f"ExemplarVAE knows an image among its exemplars by its pixels, and this data draws '{data.measure}' "
                "images anew in every batch; choose data that stay as they are, such as binarized_mnist, or set "
                "model.leave_out to null"
            )
        self.leave_out = not data.redrawn if leave_out is None else leave_out

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior(x if self.leave_out else None)
        z = q.rsample((1,))  # (1, b, latent)
        distortion = -self.likelihood(z).log_prob(x).mean(0)  # (b,)
        rate = divergence(q, p, z)  # (b,)
        bound = elbo(distortion, rate).mean()
        return Step({"model": -bound}, {"elbo": bound, "rate": rate.mean(), "distortion": distortion.mean()})
