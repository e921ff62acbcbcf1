"""The VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.distributions import divergence
from vaebench.objectives import elbo
from vaebench.posteriors.codes import VectorQuantised
from vaebench.priors import PriorFactory
from vaebench.priors.codes import CodePrior, FactorisedCodes
from vaebench.quantisation import commitment


@final
class VQVAE(Family):
    r"""VQ-VAE: the encoder's n vectors are replaced by the closest codes of a codebook, and the decoder reads those.

    .. math:: -\log p(x|z) + \beta \sum_{i=1}^n \big|z_e(x)_i - \mathrm{sg}[e_i]\big|^2, \qquad
              e_i = \arg\min_e |z_e(x)_i - e|

    The decoder's gradient reaches z_e as if it were z: straight through. Codes are moving averages of what is written
    into them; those hardly taken start anew. The commitment is summed over an image and averaged over images, so that β
    does not depend on the batch. All mass of q is on z, so log p(x|z) + log p(z) bounds log p(x): a second group fits
    the prior to the codes, all along or, from the step `stage`, alone. Nats an image.

    Reference:
        van den Oord, Vinyals & Kavukcuoglu 2017, https://arxiv.org/abs/1711.00937.

    Args:
        data: shape, measure and mean of the images.
        commitment, decay: β ≥ 0; of the averages, in [0, 1).
        least: codes taken at less than this part of their fair share start anew.
        stage: step from which only the prior learns; 0: both learn all along.
        posterior, prior: build q(z|x) with its codebook, where `latent` is n, and p(z) over the codes.
        parts: latent, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"commitment": 0.0}
    POSTERIOR, PRIOR, STRAIGHT_THROUGH = VectorQuantised, CodePrior, ("posterior",)

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
        posterior: Callable[[Shape, Shape], Conditional] = VectorQuantised,
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
        z = q.rsample((1,))  # (1, b, n d)
        distortion = -self.likelihood(z).log_prob(x).mean(0)  # (b,)
        rate, committed = divergence(q, self.prior(), z), commitment(found)  # (b,) each
        bound = elbo(distortion, rate).mean()
        losses = {"model": self.commitment * committed.mean() - bound, "prior": rate.mean()}
        logs = {"elbo": bound, "rate": rate.mean(), "distortion": distortion.mean(), "commitment": committed.mean()}
        state = self.posterior.after(found, self.decay, self.least, t, self.active(t)["model"])
        return Step(losses, logs, state)
