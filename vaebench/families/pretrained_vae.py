"""The VAE whose encoder is pre-trained as an autoencoder's."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core import DataSpec, Family, Step
from vaebench.distributions import divergence
from vaebench.functional.objectives import elbo, free_bits
from vaebench.schedules import Constant, Schedule


@final
class PretrainedVAE(Family):
    r"""Encoder pre-training: first an autoencoder with a helper decoder h, then a VAE whose own decoder starts fresh.

    .. math:: t < T: \; \max_{\phi, h} E_{q(z|x)}[\log h(x|z)], \qquad
              t \ge T: \; \max_{\phi, \theta} E_{q(z|x)}[\log p(x|z)]
              - s(t - T) \max\big(\lambda, KL(q(z|x) \| p(z))\big)

    The encoder that the second stage starts from writes much more than a fresh one. The helper has the decoder's shape
    and start, learns in the first stage and rests in the second (both are evaluated all along, so that a step costs
    half as much again as a plain VAE's). The ELBO at T = 0, λ = 0 and s = 1. Nats per image.

    Reference:
        Li et al. 2019, A surprisingly effective fix for deep latent variable modeling of text,
        https://arxiv.org/abs/1909.00868.

    Args:
        data: shape, measure and mean of the images.
        pretrain: T, training steps of the first stage; 0 or more.
        free: λ ≥ 0, nats per image: a rate below it costs as much as λ.
        schedule: s(t) in [0, 1] as a function of the second stage's steps.
        parts: latent, posterior, prior, likelihood, lr, surrogate; see `Family`.
    """

    NEUTRAL = {"pretrain": 0.0, "free": 0.0}
    STAGES = ("pretrain",)

    pretrain: Tensor
    free: Tensor

    def __init__(
        self,
        data: DataSpec,
        pretrain: float = 4000,
        free: float = 8.0,
        schedule: Schedule | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(data, **parts)
        self.helper = deepcopy(self.likelihood)
        self.schedule = schedule or Constant()
        self.hyper(pretrain=pretrain, free=free)

    def groups(self) -> dict[str, tuple[str, ...]]:
        return {"encoder": ("posterior",), "decoder": ("likelihood", "prior"), "helper": ("helper",)}

    def active(self, t: Tensor) -> dict[str, Tensor]:
        return {"decoder": t >= self.pretrain, "helper": t < self.pretrain}

    def step(self, x: Tensor, y: Tensor | None, t: Tensor) -> Step:
        q, p = self.posterior(x), self.prior()
        z = q.rsample((1,))  # (1, b, latent)
        helped, distortion = (-decoder(z).log_prob(x).mean(0) for decoder in (self.helper, self.likelihood))  # (b,)
        rate = divergence(q, p, z)  # (b,)
        paid = self.schedule((t - self.pretrain).clamp(min=0)) * free_bits(rate[:, None], self.free)
        loss = (distortion + paid).mean()
        encoder = torch.where(t < self.pretrain, helped.mean(), loss)
        logs = {"elbo": elbo(distortion, rate).mean(), "rate": rate.mean(), "distortion": distortion.mean()}
        return Step({"encoder": encoder, "decoder": loss, "helper": helped.mean()}, logs)
