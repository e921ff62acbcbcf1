"""A standard normal prior behind a learned rejection sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.quasirandom import SobolEngine
from zuko.lazy import LazyDistribution

from vaebench.distributions.resampled import AcceptReject
from vaebench.errors import UserError
from vaebench.measures import DataSpec, Shape
from vaebench.networks import MLP, Network
from vaebench.priors import Prior, StandardNormal

NETS, POINTS = 8, 2048  # independent Sobol sequences, and points of each, that estimate Z in evaluation


@final
class Resampled(Prior):
    r"""LARS: N(0, I) through a rejection sampler of T tries with a learned acceptance probability a(z).

    .. math:: p(z) = \pi(z) \Big[ \frac{a(z)}{Z} \big(1 - (1 - Z)^{T-1}\big) + (1 - Z)^{T-1} \Big], \qquad
              Z = E_\pi[a(z)], \quad \pi = N(0, I)

    Z is estimated, which adds a common error to log p(z) of all z. The points are scrambled Sobol sequences, which in
    few dimensions are far more accurate than independent draws. In training they are shifted randomly at each step;
    in evaluation they are fixed, and different from those of training, to which a could adapt. The spread of the
    sequences gives the standard error (`doubt`). The paper uses independent draws with reweighted samples of the batch,
    and 10¹⁰ draws for evaluation.

    Reference:
        Bauer & Mnih 2019, Resampled priors for variational autoencoders (https://arxiv.org/abs/1810.11428).

    Args:
        latent: shape of a latent, (n,).
        data, posterior: unused.
        tries: T ≥ 2, the number of passes of the network per sample.
        samples: points for the estimate of Z in a training step, preferably a power of two.
        net: builds the network from a latent to the logit of a.

    Raises:
        UserError: fewer than two tries, or no samples.
    """

    ALSO = ("LARS",)

    estimate = "p(z) with an estimated normaliser Z"

    points: Tensor
    kept: Tensor

    def __init__(
        self,
        latent: Shape,
        data: DataSpec | None = None,
        posterior: LazyDistribution | None = None,
        tries: int = 100,
        samples: int = 1024,
        net: Callable[[Shape, Shape], Network] = MLP,
    ) -> None:
        super().__init__()
        if tries < 2 or samples < 1:
            raise UserError(
                f"Resampled has {tries} tries and {samples} samples: expected at least 2 and 1; raise prior.tries or "
                "prior.samples"
            )
        self.tries = tries
        self.base = StandardNormal(latent)
        self.net = net(latent, (1,))
        size = math.prod(latent)
        nets = [SobolEngine(size, scramble=True, seed=seed) for seed in range(NETS + 1)]
        self.register_buffer("points", nets[0].draw(samples), persistent=False)
        self.register_buffer("kept", _normal(torch.stack([net.draw(POINTS) for net in nets[1:]])), persistent=False)

    def forward(self, c: Tensor | None = None) -> AcceptReject:
        z = self.kept.flatten(0, 1)
        if self.training:
            shift = torch.rand(z.shape[-1], dtype=z.dtype, device=z.device)
            z = _normal((self.points + shift) % 1)
        return AcceptReject(self.base(), self.log_accept, _log_mean(self.log_accept(z)), self.tries)

    def log_accept(self, z: Tensor) -> Tensor:
        """log a(z), (*batch, n) -> (*batch,)."""
        return F.logsigmoid(self.net(z).squeeze(-1))

    def precision(self) -> tuple[float, float]:
        """log Z in evaluation, and its standard error from the spread of the independent sequences, nats."""
        with torch.no_grad():
            each = _log_mean(self.log_accept(self.kept).mT).double()  # log Z of every sequence
        log_z = _log_mean(each)
        return float(log_z), float((each - log_z).exp().std()) / NETS**0.5

    def doubt(self) -> str:
        """A sentence on the accuracy of log p(z), for a record's warnings."""
        log_z, error = self.precision()
        return (
            f"log p(z) holds an estimate of log Z, {log_z:.4g} with a standard error of {error:.2g} nats from "
            f"{NETS * POINTS} points, and every figure that log p(z) is part of has the same error"
        )


def _normal(uniform: Tensor) -> Tensor:
    """Maps values of U(0, 1) to values of N(0, 1), with both ends clamped to finite values."""
    return torch.special.ndtri(uniform.clamp(1e-7, 1 - 1e-7))


def _log_mean(values: Tensor) -> Tensor:
    """log of the mean of exp(values) over the first dimension."""
    return torch.logsumexp(values, 0) - math.log(len(values))
