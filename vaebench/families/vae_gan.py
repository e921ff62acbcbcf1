"""The VAE with a critic of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench.core import DataSpec, Family, Shape, Step
from vaebench.distributions import divergence
from vaebench.functional.objectives import elbo
from vaebench.functional.regularisers import discrimination
from vaebench.networks import MLP, Linear, Network


@final
class VAEGAN(Family):
    r"""VAE-GAN: reconstructions are to resemble their image in the features h of a critic D, and to fool it.

    .. math:: \text{encoder: } KL + R, \quad \text{decoder: } R - \lambda \log D(\tilde x) - \lambda \log D(x_p), \quad
              R = -\delta \log p(x|z) + \tfrac\gamma2 |h(x) - h(\tilde x)|^2

    with x̃ = E[x|z] for z ~ q(z|x) and x_p for z ~ p(z); the critic weighs both together like images (the paper: each).
    All step at once. The paper has δ = 0; here δ keeps the bound meant that a record reports. It is the ELBO at δ = 1,
    γ = λ = 0. Means are no draws: on images of 0 and 1 the critic need only look for grey. Nats per image.

    Reference:
        Larsen, Sønderby, Larochelle & Winther 2016, https://arxiv.org/abs/1512.09300.

    Args:
        data: shape, measure and mean of the images.
        pixels: δ ≥ 0.
        likeness: γ ≥ 0.
        adversarial: λ ≥ 0.
        critic: builds the network from an image to h, (features,); a linear map of its tanh is D's logit.
        features: size of h.
        lr_critic: learning rate of the critic.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"pixels": 1.0, "likeness": 0.0, "adversarial": 0.0}

    pixels: Tensor
    likeness: Tensor
    adversarial: Tensor

    def __init__(
        self,
        data: DataSpec,
        pixels: float = 1.0,
        likeness: float = 1.0,
        adversarial: float = 1.0,
        critic: Callable[[Shape, Shape], Network] = MLP,
        features: int = 64,
        lr_critic: float = 3e-4,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.critic, self.critic_head = critic(data.shape, (features,)), Linear(features, 1)
        self.hyper(pixels=pixels, likeness=likeness, adversarial=adversarial, lr_critic=lr_critic)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"encoder": ("posterior",), "decoder": ("likelihood", "prior"), "critic": ("critic",)}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior()
        z = q.rsample((1,))  # (1, b, latent)
        made, rate = self.likelihood(z), divergence(q, p, z)  # (b,)
        dreamt = self.likelihood(p.rsample((1, len(x)))).mean[0]
        real, copied, dreamt = (self.critic(images) for images in (x, made.mean[0], dreamt))  # h: (b, features)
        distortion, unlike = -made.log_prob(x).mean(0), (real - copied).square().sum(-1) / 2  # (b,) each
        fake = self.critic_head(torch.tanh(torch.cat([copied, dreamt])))
        fooling, critic = F.softplus(-fake).mean(), discrimination(self.critic_head(torch.tanh(real)), fake)
        resembling = (self.pixels * distortion + self.likeness * unlike).mean()
        losses = {"encoder": rate.mean() + resembling, "decoder": resembling + 2 * self.adversarial * fooling}
        logs = {"elbo": elbo(distortion, rate).mean(), "rate": rate.mean(), "distortion": distortion.mean()}
        return Step(losses | {"critic": critic}, logs | {"unlike": unlike.mean(), "fooling": fooling, "critic": critic})
