"""FactorVAE: a critic estimates the total correlation of the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from vaebench.core import DataSpec, Family, Shape, Step
from vaebench.functional.regularisers import discrimination, permuted
from vaebench.networks import MLP, Network


@final
class FactorVAE(Family):
    r"""FactorVAE: the ELBO less γ times the total correlation of the aggregate code, which a critic D estimates.

    .. math:: L(x) - \gamma\,E_{q(z)}\Big[\log \frac{D(z)}{1 - D(z)}\Big], \quad
              \max_D E_{q(z)}[\log D(z)] + E_{\prod_j q(z_j)}[\log(1 - D(z))]

    At the best D the bracket is log q(z) − log Π_j q(z_j). Samples of Π_j q(z_j) are codes whose latents are permuted
    across images, each by itself. The paper takes them from a second batch; here a batch is cut in two halves: the ELBO
    is of the whole batch, the total correlation of the first half, and the permuted codes come from the second, so a
    critic sees half as many codes of each kind as there are images in a batch. Both groups step at once. Nats.

    Reference:
        Kim & Mnih 2018, https://arxiv.org/abs/1802.05983.

    Args:
        data: shape, measure and mean of the images.
        gamma: γ ≥ 0.
        critic: builds the critic's logit from the shapes of a latent and of its output, (1,).
        lr_critic: learning rate of the critic.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"gamma": 0.0}

    gamma: Tensor

    def __init__(
        self,
        data: DataSpec,
        gamma: float = 35.0,
        critic: Callable[[Shape, Shape], Network] = MLP,
        lr_critic: float = 1e-4,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.critic = critic(tuple(self.prior().event_shape), (1,))
        self.hyper(gamma=gamma, lr_critic=lr_critic)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("posterior", "prior", "likelihood"), "critic": ("critic",)}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        terms = self.terms(x, y)
        half = (len(x) + 1) // 2  # the middle image of an odd batch is in both halves
        real, fake = self.critic(terms.z[0, :half]), self.critic(permuted(terms.z[0, -half:]))
        correlation, critic = real.mean(), discrimination(real, fake)
        losses = {"model": -terms.elbo.mean() + self.gamma * correlation, "critic": critic}
        return Step(losses, terms.logs | {"total_correlation": correlation, "critic": critic})
