"""The distribution of a rejection sampler with a limited number of tries."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import SampleShape
from vaebench.errors import UserError


class AcceptReject(Distribution):
    r"""The first of up to T − 1 proposals that is accepted, with probability a(z), or else the T-th.

    .. math:: p(z) = \pi(z) \Big[ \frac{a(z)}{Z} \big(1 - (1 - Z)^{T-1}\big) + (1 - Z)^{T-1} \Big], \qquad
              Z = E_\pi[a(z)]

    Its samples pass no gradient, so that `rsample` raises where one is needed. Bauer & Mnih 2019, section 3.2 (https://arxiv.org/abs/1810.11428).

    Args:
        proposal: π, () of (n,).
        log_accept: log a(z) ≤ 0, (*batch, n) -> (*batch,).
        log_z: log Z, 0-dim; the density is normalised where it is exact.
        tries: T ≥ 2.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector

    def __init__(
        self, proposal: Distribution, log_accept: Callable[[Tensor], Tensor], log_z: Tensor, tries: int
    ) -> None:
        self.proposal, self.log_accept, self.tries = proposal, log_accept, tries
        self.log_z = log_z.clamp(-15, -1e-6)  # beyond either end p is π to rounding, and its logarithms have no slope
        super().__init__(proposal.batch_shape, proposal.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        failing = (self.tries - 1) * torch.log1p(-self.log_z.exp())  # log (1 − Z)^(T−1)
        chosen = self.log_accept(value) - self.log_z + torch.log(-torch.expm1(failing))
        return self.proposal.log_prob(value) + torch.logaddexp(chosen, failing)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        if torch.is_grad_enabled():
            raise UserError(
                "samples of a rejection sampler have no gradient, and the objective needs one; set model.prior to "
                "vaebench.priors.mixture.MixtureOfGaussians or a flow"
            )
        return self.sample(sample_shape)  # as a level of a hierarchy is sampled

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        with torch.no_grad():
            z = self.proposal.rsample(torch.Size(sample_shape))
            accepted = torch.zeros(z.shape[:-1], dtype=torch.bool, device=z.device)
            for _ in range(self.tries - 1):
                accepted = accepted | (torch.rand_like(z[..., 0]).log() < self.log_accept(z))
                z = torch.where(accepted[..., None], z, self.proposal.rsample(torch.Size(sample_shape)))
        return z
