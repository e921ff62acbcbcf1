"""The VAE with free bits."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import divergence_units
from vaebench.errors import UserError
from vaebench.objectives import free_bits


@final
class FreeBitsVAE(Family):
    r"""Free bits: no latent unit, or group of them, gains by a rate below λ.

    .. math:: L(x) = E_{q(z|x)}[\log p(x|z)] - \sum_j \max\big(\lambda,\; KL(q(z_j|x) \| p(z_j))\big)

    with the rate of group j averaged over the batch before the maximum is taken, as in the paper, or (`average` off)
    of each image alone, which also stops the gradient of images that write less than the others. A lower bound on the
    ELBO, and equal to it at λ = 0. Nats an image.

    Reference:
        Kingma et al. 2016, Improved variational inference with inverse autoregressive flow, appendix,
        https://arxiv.org/abs/1606.04934.

    Args:
        data: shape, measure and mean of the images.
        free: λ ≥ 0, nats a group.
        groups: number of groups of neighbouring units, a divisor of their number; None makes every unit one.
        average: whether the maximum is taken of the batch's mean.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.

    Raises:
        UserError: the units do not divide into the groups, or q or p does not factorise over them.
    """

    NEUTRAL = {"free": 0.0}

    free: Tensor

    def __init__(
        self, data: DataSpec, free: float = 0.25, groups: int | None = None, average: bool = True, **parts: Any
    ) -> None:
        super().__init__(data, **parts)
        self.require_units()
        (units,) = self.prior().event_shape
        if groups is not None and (groups < 1 or units % groups):
            raise UserError(
                f"FreeBitsVAE cannot split {units} latent units into {groups} equal groups; set model.groups to a "
                "divisor of model.latent"
            )
        self.shape, self.average = (groups or units, -1), average
        self.hyper(free=free)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        units = divergence_units(terms.q, terms.p)  # (b, latent)
        rates = units.unflatten(-1, self.shape).sum(-1)  # (b, groups)
        paid = free_bits(rates.mean(0) if self.average else rates, self.free).mean()
        return Step({"model": terms.distortion.mean() + paid}, terms.logs | {"rate_paid": paid})
