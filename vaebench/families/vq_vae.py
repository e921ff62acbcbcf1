"""The VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.functional.quantisation import commitment
from vaebench.posteriors.codes import ResidualQuantised, VectorQuantised
from vaebench.priors import PriorFactory
from vaebench.priors.codes import CodePrior, FactorisedCodes
from vaebench.ranges import DECAY


@final
class VQVAE(Family):
    r"""VQ-VAE: the encoder's n vectors are replaced by the closest codes of a codebook, and the decoder reads those.

    .. math:: -\log p\Big(x \Big| \sum_j e_j\Big) + \beta \sum_{i, j} \big|r_{ij} - \mathrm{sg}[e_{ij}]\big|^2, \qquad
              e_{ij} = \arg\min_e |r_{ij} - e|, \; r_{i1} = z_e(x)_i, \; r_{i,j+1} = r_{ij} - e_{ij}

    with one level j; the residual VQ-VAE has several (`posteriors.codes.ResidualQuantised`). The decoder's gradient
    reaches z_e straight through. Codes are moving averages of what is written into them; those hardly taken start anew.
    The commitment is summed over an image and averaged over images, so that β does not depend on the batch. All mass of
    q is on z, so log p(x|z) + log p(z) bounds log p(x): a second group fits the prior to the codes, all along or, from
    the step `stage`, alone. Nats per image.

    Reference:
        van den Oord, Vinyals & Kavukcuoglu 2017, https://arxiv.org/abs/1711.00937; residual: Zeghidour et al. 2021,
        https://arxiv.org/abs/2107.03312, and Lee et al. 2022, https://arxiv.org/abs/2203.01941.

    Args:
        data: shape, measure and mean of the images.
        commitment, decay, least: β ≥ 0; of the averages, in [0, 1); part of a fair share below which a code is dead.
        stage: step from which only the prior learns; 0: both learn all along.
        posterior, prior: build q(z|x) with its codebook, where `latent` is n, and p(z) over the codes.
        parts: latent, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"decay": DECAY}
    NEUTRAL = {"commitment": 0.0}
    POSTERIOR, PRIOR, STRAIGHT_THROUGH, STAGES = ResidualQuantised, CodePrior, ("posterior",), ("stage",)

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
        q, codes = self.posterior.read(x)
        terms, committed = self.terms(x, y, q=q), commitment(codes).mean()
        losses = {"model": self.commitment * committed - terms.elbo.mean(), "prior": terms.rate.mean()}
        state = self.posterior.after(codes, self.decay, self.least, t, self.active(t)["model"], self)
        return Step(losses, terms.logs | {"commitment": committed}, state)
