"""Quality of reconstructions: mean squared error, PSNR, SSIM, MS-SSIM. Pixels lie in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.distributions.divergences import Centred
from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import each
from vaebench.evaluation.estimators.draws import sample_posterior
from vaebench.evaluation.images import Stack, batch_size
from vaebench.functional import ssim as similarity
from vaebench.functional.ssim import WEIGHTS, WINDOW, compared

BATCH = 250
SCALES = len(WEIGHTS)  # of MS-SSIM


class Reconstruction(NamedTuple):
    """The reconstructions of n images.

    Attributes:
        images: E[x|z], (n, *data), on the device of the model.
        code: name of z: 'the posterior mean', 'the posterior's centre' or 'one sample of the posterior'.
    """

    images: Tensor
    code: str


def reconstruct(model: LatentModel, x: Stack, seed: int = 0) -> Reconstruction:
    """The mean of p(x|z) at the posterior mean of z, or at one sample where q has none; inside `evaluation_mode`.

    Raises:
        Unavailable: the likelihood has no mean in closed form.
    """
    pairs = [made for _, made in reconstructions(model, x, seed)]
    return Reconstruction(torch.cat([made.images for made in pairs]), pairs[-1].code)


def reconstructions(model: LatentModel, x: Stack, seed: int = 0) -> Iterator[tuple[Tensor, Reconstruction]]:
    """Consecutive images of x (n, *data) with their reconstructions, a batch at a time; see `reconstruct`."""
    for some, images in each(model, x, batch_size(x, BATCH)):
        z, which = code(some, images, seed)
        yield images, Reconstruction(mean_image(some, z[None])[0], which)


def code(model: LatentModel, x: Tensor, seed: int = 0) -> tuple[Tensor, str]:
    """One code per image, (b, *latent), and its name: the posterior's mean, or its centre where its space has no mean,
    or one sample where it has neither."""
    q = model.posterior(x)
    if isinstance(q, Centred):
        return q.centre, "the posterior's centre"
    with suppress(Unavailable), absence("the posterior has no mean in closed form"):
        return q.mean, "the posterior mean"
    return sample_posterior(model, x, 1, seed)[0], "one sample of the posterior"


def mean_image(model: LatentModel, z: Tensor) -> Tensor:
    """E[x|z] for z (k, b, *latent): (k, b, *data).

    Raises:
        Unavailable: the likelihood has none in closed form.
    """
    p = model.likelihood(z)
    with absence(f"the likelihood, {type(p).__name__}, has no mean in closed form"):
        return p.mean


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over the values of each image, (n, *data) -> float64 (n,) on the CPU."""
    return (x.double() - y.double()).square().flatten(1).mean(1).cpu()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, −10 log10 mse, dB; infinite where the two are equal."""
    return decibels(mse(x, y))


def decibels(mse: Tensor) -> Tensor:
    """PSNR of mean squared errors of values in [0, 1], dB."""
    return -10 * mse.log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each image, (n, c, h, w) -> float64 (n,) on the CPU, at most 1.

    Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861), with their Gaussian window: the mean over channels and
    over all pixels whose window lies inside the image. It equals `skimage.metrics.structural_similarity` with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0``.

    Raises:
        Unavailable: an image is smaller than the window.
    """
    _require_window(x, 1)
    pairs = zip(x.split(BATCH), y.split(BATCH), strict=True)
    return torch.cat([compared(a.double(), b.double())[0].mean(-1).cpu() for a, b in pairs])


def image_ms_ssim(x: Tensor, y: Tensor, scales: int = SCALES) -> Tensor:
    """Multi-scale structural similarity of each image, as `vaebench.functional.ssim.ms_ssim`: float64 (n,) on the CPU.

    Args:
        x, y: images in [0, 1], (n, c, h, w).
        scales: number of scales; MS-SSIM is defined with 5.

    Raises:
        Unavailable: at the coarsest scale an image is smaller than the window: 176 pixels are needed for 5.
    """
    _require_window(x, scales)
    pairs = zip(x.split(BATCH), y.split(BATCH), strict=True)
    return torch.cat([similarity.ms_ssim(a.double(), b.double(), scales).cpu() for a, b in pairs])


def _require_window(x: Tensor, scales: int) -> None:
    height, width = x.shape[-2:]
    if min(height, width) >> (scales - 1) < WINDOW:
        if scales == 1:
            raise Unavailable(f"SSIM's window is {WINDOW} pixels across, and the images are {height} × {width}")
        raise Unavailable(
            f"at the coarsest of {scales} scales SSIM's window is {WINDOW << (scales - 1)} pixels of the image across, "
            f"and the images are {height} × {width}"
        )
