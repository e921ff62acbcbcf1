"""The VAE with lookup-free quantisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.functional.quantisation import assignment_entropies
from vaebench.posteriors.codes import LookupFree
from vaebench.priors import PriorFactory
from vaebench.priors.codes import CodePrior, FactorisedCodes
from vaebench.ranges import POSITIVE


@final
class LFQVAE(Family):
    r"""LFQ: a code is the signs of the encoder's vector, and an entropy term favours the use of all 2^d codes.

    .. math:: -\log p(x|z) + \zeta\,n\,\big(E[H(c|z_e)] - H(E[p(c|z_e)])\big) + \beta |z_e(x) - \mathrm{sg}[z]|^2,
              \quad z = \mathrm{sign}\,z_e(x)

    with soft codes p(c|z_e) ∝ exp(−|z_e − c|²/τ) and expectations over the batch and its n places. The signs' gradient
    goes straight through. All mass of q is on z, so log p(x|z) + log p(z) bounds log p(x): a second group fits the
    prior to the codes, all along or, from the step `stage`, alone. Nats per image.

    Reference:
        Yu et al. 2023, Language model beats diffusion, https://arxiv.org/abs/2310.05737.

    Args:
        data: shape, measure and mean of the images.
        entropy, commitment: ζ ≥ 0 and β ≥ 0.
        temperature: τ > 0.
        stage: step from which only the prior learns; 0: both learn all along.
        posterior, prior: build q(z|x), where `latent` is n, and p(z) over the codes.
        parts: latent, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"temperature": POSITIVE}
    NEUTRAL = {"entropy": 0.0, "commitment": 0.0}
    POSTERIOR, PRIOR, STRAIGHT_THROUGH, STAGES = LookupFree, CodePrior, ("posterior",), ("stage",)

    entropy: Tensor
    commitment: Tensor
    temperature: Tensor
    stage: Tensor

    def __init__(
        self,
        data: DataSpec,
        entropy: float = 0.1,
        commitment: float = 0.25,
        temperature: float = 1.0,
        stage: float = 0,
        posterior: Callable[[Shape, Shape], Conditional] = LookupFree,
        prior: PriorFactory = FactorisedCodes,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, prior=prior, **parts)
        self.hyper(entropy=entropy, commitment=commitment, temperature=temperature, stage=stage)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("posterior", "likelihood"), "prior": ("prior",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"model": (self.stage == 0) | (t < self.stage), "prior": t >= self.stage}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, vectors = self.posterior.read(x)
        terms, far = self.terms(x, y, q=q), (vectors.flatten(1) - q.point.detach()).square().sum(-1).mean()
        each, together = assignment_entropies(vectors, q.book, self.temperature)
        penalty = self.entropy * q.places * (each - together) + self.commitment * far
        losses = {"model": penalty - terms.elbo.mean(), "prior": terms.rate.mean()}
        return Step(losses, terms.logs | {"commitment": far})
