"""The VAE with finite scalar quantisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.posteriors.codes import FiniteScalar
from vaebench.priors import PriorFactory
from vaebench.priors.codes import CodePrior, FactorisedCodes


@final
class FSQVAE(Family):
    r"""FSQ: each value of the encoder's n vectors is squashed and rounded to one of its L levels, and that is the code.

    .. math:: -\log p(x|z), \qquad z = \mathrm{round}\big(\lfloor L/2 \rfloor \tanh z_e(x)\big) / \lfloor L/2 \rfloor

    (for odd L; see `quantisation.rounded`) with the rounding's gradient straight through. No codebook is learnt, so
    there is no commitment and no dead code. All mass of q is on z, so log p(x|z) + log p(z) bounds log p(x): a second
    group fits the prior to the codes, all along or, from the step `stage`, alone. Nats per image.

    Reference:
        Mentzer, Minnen, Agustsson & Tschannen 2023, https://arxiv.org/abs/2309.15505.

    Args:
        data: shape, measure and mean of the images.
        stage: step from which only the prior learns; 0: both learn all along.
        posterior: builds q(z|x) with its levels; `latent` is n.
        prior: builds p(z) over the codes.
        parts: latent, likelihood, lr, surrogate; see `Family`.
    """

    POSTERIOR, PRIOR, STRAIGHT_THROUGH, STAGES = FiniteScalar, CodePrior, ("posterior",), ("stage",)

    stage: Tensor

    def __init__(
        self,
        data: DataSpec,
        stage: float = 0,
        posterior: Callable[[Shape, Shape], Conditional] = FiniteScalar,
        prior: PriorFactory = FactorisedCodes,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, prior=prior, **parts)
        self.hyper(stage=stage)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("posterior", "likelihood"), "prior": ("prior",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"model": (self.stage == 0) | (t < self.stage), "prior": t >= self.stage}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        return Step({"model": -terms.elbo.mean(), "prior": terms.rate.mean()}, terms.logs)
