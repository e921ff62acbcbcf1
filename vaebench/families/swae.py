"""The sliced-Wasserstein autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.functional.regularisers import directions, sliced_wasserstein
from vaebench.posteriors import Delta


@final
class SWAE(Family):
    r"""Sliced-Wasserstein autoencoder: the aggregate code is matched to the prior along random directions.

    .. math:: E_{q(z)}[-\log p(x|z)] + \frac{\lambda}{L} \sum_{l=1}^L W_2^2(\theta_l \cdot q(z), \theta_l \cdot p(z))

    In one dimension W₂² pairs sorted samples: one code an image with as many of p(z). Directions are new every step.
    The cost is the likelihood's, in nats; there is no rate, so this is no bound. The encoder may be deterministic.

    Reference:
        Kolouri, Pope, Martin & Rohde 2019, https://arxiv.org/abs/1804.01947.

    Args:
        data: shape, measure and mean of the images.
        penalty: λ ≥ 0.
        slices: L, directions a step.
        posterior: builds q(z|x), deterministic or not.
        parts: latent, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = None
    DENSITY = False

    penalty: Tensor

    def __init__(
        self,
        data: DataSpec,
        penalty: float = 10.0,
        slices: int = 50,
        posterior: Callable[[Shape, Shape], Conditional] = Delta,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, **parts)
        self.slices = slices
        self.hyper(penalty=penalty)

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        z = self.posterior(x).rsample((1,))  # (1, b, latent)
        distortion = -self.likelihood(z).log_prob(x).mean()
        distance = sliced_wasserstein(z[0], self.prior().rsample((len(x),)), directions(self.slices, z))
        logs = {"distortion": distortion, "sliced_wasserstein": distance}
        return Step({"model": distortion + self.penalty * distance}, logs)
