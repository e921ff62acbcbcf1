"""The Wasserstein autoencoder with a critic, which is the adversarial autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor

from vaebench.core import Conditional, DataSpec, Family, Shape, Step
from vaebench.functional.regularisers import discrimination
from vaebench.networks import MLP, Network
from vaebench.posteriors import Delta


@final
class WAEGAN(Family):
    r"""Wasserstein autoencoder with a critic D on the code that separates p(z) from the aggregate q(z).

    .. math:: \min_{q, p(x|z)} E_{q(z)}[-\log p(x|z) - \lambda \log D(z)], \quad
              \max_D E_{p(z)}[\log D(z)] + E_{q(z)}[\log(1 - D(z))]

    The cost is the likelihood's, in nats; there is no rate, so this is no bound. λ = 1 is the adversarial autoencoder
    of Makhzani et al., which steps the terms in turn; here both groups step at once. The encoder may be deterministic.

    Reference:
        Tolstikhin, Bousquet, Gelly & Schölkopf 2018, https://arxiv.org/abs/1711.01558; Makhzani et al. 2016,
        https://arxiv.org/abs/1511.05644.

    Args:
        data: shape, measure and mean of the images.
        penalty: λ ≥ 0.
        critic: builds the critic's logit from the shapes of a latent and of its output, (1,).
        lr_critic: learning rate of the critic.
        posterior: builds q(z|x), deterministic or not.
        parts: latent, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = None
    DENSITY = False

    penalty: Tensor

    def __init__(
        self,
        data: DataSpec,
        penalty: float = 1.0,
        critic: Callable[[Shape, Shape], Network] = MLP,
        lr_critic: float = 5e-4,
        posterior: Callable[[Shape, Shape], Conditional] = Delta,
        **parts: Any,
    ) -> None:
        super().__init__(data, posterior=posterior, **parts)
        self.critic = critic(tuple(self.prior().event_shape), (1,))
        self.hyper(penalty=penalty, lr_critic=lr_critic)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"model": ("posterior", "prior", "likelihood"), "critic": ("critic",)}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        z = self.posterior(x).rsample((1,))  # (1, b, latent)
        distortion = -self.likelihood(z).log_prob(x).mean()
        real, fake = self.critic(self.prior().rsample((len(x),))), self.critic(z[0])
        fooling, critic = F.softplus(-fake).mean(), discrimination(real, fake)  # −log D(z), and the critic's own loss
        losses = {"model": distortion + self.penalty * fooling, "critic": critic}
        return Step(losses, {"distortion": distortion, "fooling": fooling, "critic": critic})
