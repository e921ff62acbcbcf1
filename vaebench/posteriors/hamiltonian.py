"""An encoder with Hamiltonian steps that move its samples towards the exact posterior."""

from __future__ import annotations

from functools import partial
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import grad
from zuko.lazy import LazyDistribution

from vaebench.distributions.hamiltonian import HamiltonianPosterior, Phase, tempered_leapfrogs, tempering
from vaebench.errors import UserError
from vaebench.networks.unregistered import Shared
from vaebench.posteriors import Posterior


@final
class Hamiltonian(Posterior):
    r"""q(z|x): encoder samples after K leapfrog steps with tempering, under the potential −log p(x, z).

    The step sizes ε_j and the initial inverse temperature β_0 are learned. A sample is scored jointly with its momentum
    (`HamiltonianPosterior`); z alone has no tractable density. Each step takes one gradient of the likelihood in z.

    Reference:
        Caterini, Doucet & Sejdinovic 2018, Hamiltonian variational auto-encoder, https://arxiv.org/abs/1805.11328.

    Args:
        encoder: x -> q(z_0|x), with a density.
        prior: -> p(z) of the model; not registered here.
        likelihood: z -> p(x|z) of the model; not registered here.
        steps: K ≥ 0.
        pace: initial ε of every unit.
        limit: upper bound of ε.
        beta: initial β_0, in (0, 1).

    Raises:
        UserError: K is negative, or another setting is out of its range.
    """

    def __init__(
        self,
        encoder: LazyDistribution,
        prior: LazyDistribution,
        likelihood: LazyDistribution,
        steps: int = 5,
        pace: float = 0.2,
        limit: float = 0.5,
        beta: float = 2 / 3,
    ) -> None:
        super().__init__()
        if steps < 0 or not (0 < pace < limit and 0 < beta < 1):
            raise UserError(
                f"HamiltonianVAE has steps {steps}, pace {pace}, limit {limit} and beta {beta}: expected steps ≥ 0, "
                "0 < pace < limit and 0 < beta < 1; change model.steps, model.pace, model.limit or model.beta"
            )
        self.encoder, self.prior, self.likelihood = encoder, Shared(prior), Shared(likelihood)
        self.steps, self.limit = steps, limit
        self.auxiliary = ", which count the momenta of Hamiltonian steps beside z: an upper bound" if steps else ""
        self.pace_logit = nn.Parameter(torch.logit(torch.full(prior().event_shape, pace / limit)))
        self.beta_logit = nn.Parameter(torch.logit(torch.tensor(beta)))

    @property
    def pace(self) -> Tensor:
        """ε of every unit, (n,), in (0, limit)."""
        return self.limit * torch.sigmoid(self.pace_logit)

    @property
    def beta(self) -> Tensor:
        """β_0 in (0, 1), 0-dim."""
        return torch.sigmoid(self.beta_logit)

    def forward(self, c: Tensor | None = None) -> HamiltonianPosterior:
        return HamiltonianPosterior(self.encoder(c), partial(self._moved, cast(Tensor, c)) if self.steps else None)

    def _moved(self, x: Tensor, z: Tensor, noise: Tensor) -> Phase:
        wanted = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(wanted):  # inference tensors have no derivative
            x, z, p = x.clone(), z.clone(), cast(Distribution, self.prior.module())

            def log_joint(z: Tensor) -> Tensor:
                return (p.log_prob(z) + cast(Distribution, self.likelihood.module(z)).log_prob(x)).sum()

            roots = tempering(self.beta, self.steps)
            return tempered_leapfrogs(z, noise.clone() / roots[0], grad(log_joint), self.pace, roots)
