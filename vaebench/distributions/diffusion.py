"""Diffusion models of images, and the variational bound on their log-density."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaebench.distributions import LEVELS, Normal, SampleShape, uniform

__all__ = ["Diffusion", "DiffusionTerms", "NoiseSchedule"]

Denoise = Callable[[Tensor, Tensor], Tensor]


class NoiseSchedule(NamedTuple):
    """Noise levels t = 1 … T: q(x_t|x) = N(α_t x, σ_t²) with α_t² + σ_t² = 1, for images in [−1, 1].

    Attributes:
        log_snr: log(α_t²/σ_t²), falling, (T,).
    """

    log_snr: Tensor

    def alpha(self, t: Tensor) -> Tensor:
        """α_t for indices t = 0 … T − 1 of levels 1 … T."""
        return torch.sigmoid(self.log_snr[t]).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.log_snr[t]).sqrt()


class DiffusionTerms(NamedTuple):
    """The variational bound −(prior + steps + reconstruction), nats per image, (*batch) each."""

    prior: Tensor  # KL(q(x_T|x) ‖ N(0, I))
    steps: Tensor  # Σ_{t>1} KL(q(x_{t−1}|x_t, x) ‖ p(x_{t−1}|x_t, z)), estimated from one t
    reconstruction: Tensor  # −log p(x|x_1)


class Diffusion(Distribution):
    r"""A chain x_T ~ N(0, I), x_{t−1} ~ q(x_{t−1} | x_t, x̂(x_t, z)), x ~ p(x|x_1), and its variational bound.

    .. math:: \log p(x|z) \ge -KL(q(x_T|x) \| p(x_T))
              - \sum_{t=2}^T E\, KL(q(x_{t-1}|x_t, x) \| p(x_{t-1}|x_t, z)) + E \log p(x|x_1)

    Each step's divergence is (SNR_{t−1} − SNR_t) |x − x̂|²/2. p(x|x_1) is N(x_1; α_1 x, σ_1²) as a function of x,
    normalised over the N levels of each value, or over the real line. `log_prob` is an unbiased estimate of the bound:
    with gradients from one t, without them the log-weight of a whole path x_1 … x_T,

    .. math:: \log w = \log \frac{p(x, x_{1:T} | z)}{q(x_{1:T} | x)}

    whose exponential has the mean p(x|z), so that importance-weighted bounds stay bounds.

    Ho et al. 2020 (https://arxiv.org/abs/2006.11239); in these terms Kingma et al. 2021
    (https://arxiv.org/abs/2107.00630), appendix E.

    Args:
        denoise: x̂ in [−1, 1], about, of x_t (*batch, *event) and indices t (*batch).
        noise: the levels.
        batch: batch shape.
        event: shape of an image.
        levels: N; None for continuous images.
    """

    arg_constraints = {}
    support: constraints.Constraint = constraints.real

    def __init__(
        self, denoise: Denoise, noise: NoiseSchedule, batch: torch.Size, event: torch.Size, levels: int | None
    ) -> None:
        self.denoise, self.noise, self.levels = denoise, noise, levels
        if levels is not None:
            self.support = LEVELS
        super().__init__(batch, event, validate_args=False)

    def _spread(self, value: Tensor) -> Tensor:
        """(*batch) -> (*batch, 1, …), over the event."""
        return value[(...,) + (None,) * len(self.event_shape)]

    def _sum(self, value: Tensor) -> Tensor:
        return value.flatten(-len(self.event_shape)).sum(-1)

    def _at(self, x: Tensor, t: Tensor) -> Tensor:
        """A draw of q(x_t|x) for each index t (*batch)."""
        return self._spread(self.noise.alpha(t)) * x + self._spread(self.noise.sigma(t)) * torch.randn_like(x)

    def _step(self, x: Tensor, noisy: Tensor, s: Tensor, t: Tensor) -> Normal:
        """q(x_s | x_t, x) for indices s < t, of every value."""
        alpha_s, alpha_t, sigma_s, sigma_t = (
            self._spread(f(i)) for f in (self.noise.alpha, self.noise.sigma) for i in (s, t)
        )
        keep = alpha_t / alpha_s
        added = -sigma_t.square() * torch.expm1(self._spread(self.noise.log_snr[t] - self.noise.log_snr[s]))
        mean = (keep * sigma_s.square() * noisy + alpha_s * added * x) / sigma_t.square()
        return Normal(mean, (added.sqrt() * sigma_s / sigma_t).expand_as(mean))

    def _reconstruction(self, x: Tensor, noisy: Tensor) -> Tensor:
        """log p(x|x_1), nats, (*batch)."""
        ratio = torch.exp(self.noise.log_snr[0] / 2)
        guess = noisy / torch.sigmoid(self.noise.log_snr[0]).sqrt()
        if self.levels is None:
            return self._sum(Normal(guess, (1 / ratio).expand_as(guess)).log_prob(x)) + x.new_tensor(
                self.event_shape.numel() * math.log(2)  # from [−1, 1] to [0, 1]
            )
        return self._sum(-((x - guess) * ratio).square() / 2 - self._logits(guess, ratio).logsumexp(-1))

    def _logits(self, guess: Tensor, ratio: Tensor) -> Tensor:
        """Of all levels, (*batch, *event, N)."""
        values = torch.linspace(-1, 1, self.levels or 2, dtype=guess.dtype, device=guess.device)
        return -((values - guess.unsqueeze(-1)) * ratio).square() / 2

    def terms(self, value: Tensor) -> DiffusionTerms:
        """The three terms of the bound for images in [0, 1], (*batch, *event), estimated by one t and one draw each."""
        x = 2 * value.expand(*self.batch_shape, *self.event_shape) - 1
        last = len(self.noise.log_snr) - 1
        t = torch.randint(1, last + 1, self.batch_shape, device=x.device)
        noisy = self._at(x, t)
        gain = self.noise.log_snr[t - 1].exp() - self.noise.log_snr[t].exp()
        steps = last * gain * self._sum((x - self.denoise(noisy, t)).square()) / 2
        alpha, variance = (torch.sigmoid(side * self.noise.log_snr[last]) for side in (1, -1))
        prior = self._sum(alpha * x.square() + variance - 1 - variance.log()) / 2
        first = torch.zeros_like(t)
        return DiffusionTerms(prior, steps, -self._reconstruction(x, self._at(x, first)))

    def log_prob(self, value: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return -sum(self.terms(value), value.new_zeros(()))
        x = 2 * value.expand(*self.batch_shape, *self.event_shape) - 1
        levels = [torch.full(self.batch_shape, t, device=x.device) for t in range(len(self.noise.log_snr))]
        noisy = self._at(x, levels[-1])
        scale = self._spread(self.noise.sigma(levels[-1])).expand_as(x)
        ends = Normal(torch.zeros_like(x), torch.ones_like(x)), Normal(self._mean(x, levels[-1]), scale)
        log_w = self._sum(ends[0].log_prob(noisy) - ends[1].log_prob(noisy))
        for s, t in zip(levels[-2::-1], levels[:0:-1], strict=True):
            q, p = self._step(x, noisy, s, t), self._step(self.denoise(noisy, t), noisy, s, t)
            noisy = q.rsample()
            log_w = log_w + self._sum(p.log_prob(noisy) - q.log_prob(noisy))
        return log_w + self._reconstruction(x, noisy)

    def _mean(self, x: Tensor, t: Tensor) -> Tensor:
        return self._spread(self.noise.alpha(t)) * x

    def sample(self, sample_shape: SampleShape = (), steps: int | None = None) -> Tensor:
        """Images in [0, 1], through all levels, or faster through `steps` evenly spaced ones, a different p(x|z).

        Args:
            sample_shape: () or (k,) with the batch in `denoise` to match.
            steps: number of noise levels in use, 1 to T.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            x = torch.randn(shape, dtype=self.noise.log_snr.dtype, device=self.noise.log_snr.device)
            last = len(self.noise.log_snr) - 1
            visits = torch.linspace(last, 0, steps or last + 1).round().long().tolist()
            visits = list(dict.fromkeys([*visits, 0]))
            batch = shape[: len(shape) - len(self.event_shape)]
            for t, s in pairwise(visits):
                here, there = (torch.full(batch, i, device=x.device) for i in (t, s))
                x = self._step(self.denoise(x, here), x, there, here).rsample()
            ratio = torch.exp(self.noise.log_snr[0] / 2)
            guess = x / torch.sigmoid(self.noise.log_snr[0]).sqrt()
            if self.levels is None:
                return (guess + torch.randn_like(guess) / ratio + 1) / 2
            logits = self._logits(guess, ratio)
            gumbel = -(-uniform(logits.shape, logits).log()).log()
            return (logits + gumbel).argmax(-1).to(x) / (self.levels - 1)
