"""A diffusion model as a decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebench.distributions import diffusion
from vaebench.distributions.interval import solved
from vaebench.errors import UserError
from vaebench.likelihoods import Likelihood
from vaebench.measures import BINARY, CONTINUOUS, DISCRETE, DataSpec, Shape
from vaebench.networks import MLP, Network
from vaebench.networks.unet import UNet
from vaebench.ranges import ANY

SPREAD = 0.5  # initial standard deviation of images in [−1, 1] for the denoiser


class Diffusion(Likelihood):
    r"""A chain of T denoising steps conditioned on z, scored by a variational bound; see `distributions.diffusion`.

    .. math:: \hat x(x_t, z) = m + \frac{\alpha_t s^2 (x_t - \alpha_t m) + \sigma_t s\, r_t\, F(x_t, z, t)}{r_t^2},
              \qquad r_t^2 = \alpha_t^2 s^2 + \sigma_t^2

    With F = 0 it is the optimal denoiser of images N(m, s²), and m is initialised at the training mean, in the form of
    Karras et al. 2022 (https://arxiv.org/abs/2206.00364), appendix B.6. The log-SNR falls linearly over the T levels.
    Pandey et al. 2022 (https://arxiv.org/abs/2201.00308) train a diffusion decoder of a VAE in two stages. Objectives
    that weight samples by p(x|z), such as importance-weighted ones, refuse it: its training score equals the bound only
    in expectation.

    Args:
        latent: shape of a latent.
        data: shape, measure and mean of the images.
        steps: T ≥ 2; an evaluation score and a sample take T passes of the network, a training score one.
        clear, noisy: log-SNR of the first and the last level; `clear` must be high enough to identify a level of x from
            x_1.
        channels, levels, context, net: see `UNet`.
        start_at_mean: initialise m so that images have the training mean.

    Raises:
        UserError: T < 2, or the log-SNR does not fall.
    """

    support = frozenset({BINARY, DISCRETE, CONTINUOUS})
    averaged = True  # one term of the bound estimates the sum of all T
    RANGES = {"clear": ANY, "noisy": ANY}
    log_snr: Tensor

    def __init__(
        self,
        latent: Shape,
        data: DataSpec,
        steps: int = 50,
        clear: float = 8.0,
        noisy: float = -8.0,
        channels: int = 16,
        levels: int = 2,
        context: int = 4,
        net: Callable[[Shape, Shape], Network] = MLP,
        start_at_mean: bool = True,
    ) -> None:
        super().__init__()
        if steps < 2 or not noisy < clear:
            raise UserError(
                f"Diffusion has {steps} steps from log-SNR {clear:g} to {noisy:g}: expected at least 2, falling; set "
                "likelihood.steps, clear and noisy so"
            )
        self.latent, self.shape, self.levels, self.steps = (
            torch.Size(latent),
            torch.Size(data.shape),
            data.levels,
            steps,
        )
        self.register_buffer("log_snr", torch.linspace(clear, noisy, steps))
        self.net = UNet(data.shape, latent, channels, levels, context, net)
        self.bound = (
            f"what stands for log p(x|z) is one path's log-weight in a diffusion of T = {steps} steps, whose mean is "
            "its variational bound: at most log p(x|z) in the mean"
        )
        self.facts = {"steps": steps, "log_snr": [clear, noisy]}
        self.width = 4 * channels // data.shape[0] + 1
        if start_at_mean:
            self.start(self.net, data.mean, self.middle)

    def middle(self, mean: Tensor) -> Tensor:
        """m for which N(m, s²) in [−1, 1], rounded to the nearest levels, has the mean (c, h, w) in [0, 1]."""
        if self.levels is None:
            return 2 * mean - 1
        edges = (2 * torch.arange(1, self.levels, dtype=torch.float64) - 1) / (self.levels - 1) - 1

        def mean_of(m: Tensor) -> Tensor:
            return torch.special.ndtr((m[..., None] - edges) / SPREAD).mean(-1)

        return solved(mean_of, mean.clamp(1e-3, 1 - 1e-3), -5.0, 5.0)

    def forward(self, c: Tensor | None = None) -> Distribution:
        assert c is not None  # a decoder has a latent
        batch, noise = c.shape[: c.dim() - len(self.latent)], diffusion.NoiseSchedule(self.log_snr)
        middle = self.net.output_bias.view(self.shape)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            z = c.expand(*t.shape, *self.latent).reshape(-1, *self.latent)
            alpha, sigma = (f(t)[..., None, None, None] for f in (noise.alpha, noise.sigma))
            size = (alpha.square() * SPREAD**2 + sigma.square()).sqrt()
            said = self.net((x / size).reshape(-1, *self.shape), z, self.log_snr[t].flatten()).view(x.shape)
            return middle + (alpha * SPREAD**2 * (x - alpha * middle) / size + sigma * SPREAD * said) / size

        return diffusion.Diffusion(denoise, noise, batch, self.shape, self.levels)
