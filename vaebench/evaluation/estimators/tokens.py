"""Latents as a second model will be trained on them: their rate in bits a pixel, their scale, channels and spectrum."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.evaluation.estimators.moments import average
from vaebench.evaluation.images import Stack, parts

RESAMPLES = 1000
COVERED = 0.95  # of an interval
STEEP = 0.25  # cycles a sample; frequencies above are those that half the resolution would lose


class Figure(NamedTuple):
    """A figure of n images together, with its standard error; None for one image."""

    value: float
    se: float | None


def bits_per_pixel(nats: Tensor, pixels: int) -> Tensor:
    """Nats of an image (n,) as bits a pixel, whatever its number of channels."""
    return nats / (math.log(2) * pixels)


def shift(z: Tensor) -> Figure:
    """Mean of all values of the latents z (n, *latent)."""
    return Figure(*average(z.double().flatten(1).mean(1)))


def scale(z: Tensor) -> Figure:
    """Standard deviation of all values of the latents z (n, *latent) around their common mean.

    Its inverse is the `scaling_factor` of latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752). The
    standard error is that of its linearisation in an image's first two moments.
    """
    values = z.double().flatten(1)
    first, second = values.mean(1), values.square().mean(1)
    mean = first.mean()
    found = float((second.mean() - mean**2).clamp(min=0).sqrt())
    if len(z) < 2 or found == 0:
        return Figure(found, None)
    slopes = (second - second.mean() - 2 * mean * (first - mean)) / (2 * found)
    return Figure(found, average(slopes)[1])


def effective_channels(z: Tensor) -> float:
    """(tr C)² / tr C² for the covariance C of the channels of z (n, channels, …) over images and places.

    It is the number of channels where all vary alike and independently, and 1 where one direction has all variance.
    """
    channels = z.double().movedim(1, 0).flatten(1)
    covariance = torch.cov(channels).reshape(len(channels), len(channels))
    return float(covariance.trace() ** 2 / covariance.square().sum())


def spectrum(x: Stack) -> Tensor:
    """Power at every whole frequency of images or latents x (n, c, h, w) but their means, float64 (frequencies,).

    Mean over images, channels and the Fourier coefficients whose distance from 0, in cycles along the shorter side,
    rounds to 1, 2, …, half that side.
    """
    down, across = (torch.fft.fftfreq(size).double() for size in x.shape[-2:])
    side = min(x.shape[-2:])
    radius = (side * (down[:, None].square() + across.square()).sqrt()).round().long()
    within = (radius >= 1) & (radius <= side // 2)
    mean = torch.stack([_power(part).mean(1).sum(0)[within] for part in parts(x)]).sum(0) / len(x)
    total = torch.zeros(side // 2, dtype=torch.float64).index_add(0, radius[within] - 1, mean)
    return total / torch.bincount(radius[within] - 1, minlength=side // 2)


def steep_share(x: Tensor) -> Figure:
    """Share of the power of x (n, c, h, w), means apart, at frequencies that half the resolution would lose.

    Frequencies of which one component exceeds a quarter of a cycle a sample; white noise has three quarters of its
    power there. Skorokhodov et al. 2025 (https://arxiv.org/abs/2502.14831) find such power in latents to harm the
    diffusion models that are trained on them.
    """
    power = torch.cat([_power(part) for part in parts(x)])
    down, across = (torch.fft.fftfreq(size).double() for size in x.shape[-2:])
    steep = (down.abs()[:, None] > STEEP) | (across.abs() > STEEP)
    part, whole = power[..., steep].sum((1, 2)), power.sum((1, 2, 3))
    share = float(part.sum() / whole.sum())
    return Figure(share, average((part - share * whole) / whole.mean())[1])


def _power(x: Tensor) -> Tensor:
    """Squared moduli of Fourier coefficients, float64 (n, c, h, w), that of the mean 0."""
    power = torch.fft.fft2(x.double().cpu(), norm="ortho").abs().square()
    power[..., 0, 0] = 0
    return power


def interval(values: Tensor, seed: int = 0) -> tuple[float, float]:
    """A 95 % interval of the mean over images of values (n,): percentiles of 1,000 bootstrap resamples."""
    values, generator = values.double().cpu(), torch.Generator().manual_seed(seed % 2**63)
    means = torch.stack(
        [values[torch.randint(len(values), values.shape, generator=generator)].mean() for _ in range(RESAMPLES)]
    )
    low, high = torch.quantile(means, torch.tensor([(1 - COVERED) / 2, (1 + COVERED) / 2], dtype=torch.float64))
    return float(low), float(high)
