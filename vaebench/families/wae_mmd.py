"""The Wasserstein autoencoder with a maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.functional.regularisers import Kernel, mmd
from vaebench.posteriors import Delta
from vaebench.ranges import POSITIVE


@final
class WAEMMD(Family):
    r"""Wasserstein autoencoder: a reconstruction cost, and a penalty that matches the aggregate code to the prior.

    .. math:: E_{q(z)}[-\log p(x|z)] + \lambda\,MMD^2(q(z), p(z))

    The cost is the likelihood's, in nats: up to a constant the paper's |x − x̂|² for a Gaussian of σ² = 1/2. There is no
    rate, so this is no bound; with the deterministic encoder of the paper there is no density of q(z|x) either, and
    figures that need one are unavailable. A batch gives one code an image and as many samples of p(z).

    Reference:
        Tolstikhin, Bousquet, Gelly & Schölkopf 2018, https://arxiv.org/abs/1711.01558.

    Args:
        data: shape, measure and mean of the images.
        penalty: λ ≥ 0.
        kernel: 'imq' as in the paper, with C = 2 n for n latents, or 'rbf'.
        scales: bandwidths that the kernel is averaged over; see `regularisers.similarity`.
        posterior: builds q(z|x), deterministic or not.
        parts: latent, prior, likelihood, lr, surrogate; see `Family`.
    """

    RANGES = {"scales": POSITIVE}

    NEUTRAL = None
    DENSITY = False

    penalty: Tensor

    def __init__(
        self,
        data: DataSpec,
        penalty: float = 10.0,
        kernel: Kernel = "imq",
        scales: Sequence[float] = (1.0,),
        posterior: Callable[[Shape, Shape], Conditional] = Delta,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, **parts)
        self.kernel, self.scales = kernel, scales
        self.hyper(penalty=penalty)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        z = self.posterior(x).rsample((1,))  # (1, b, latent)
        distortion = -self.likelihood(z).log_prob(x).mean()
        discrepancy = mmd(z[0], self.prior().rsample((len(x),)), self.kernel, self.scales)
        logs = {"distortion": distortion, "mmd": discrepancy}
        return Step({"model": distortion + self.penalty * discrepancy}, logs)
