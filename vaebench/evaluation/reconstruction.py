"""How close a reconstruction comes to its image: mean squared error, PSNR, SSIM. Pixels lie in [0, 1]."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.likelihood import codes

BATCH = 250
WINDOW, SIGMA = 11, 1.5  # pixels: SSIM's window across, and the standard deviation of its weights


class Reconstruction(NamedTuple):
    """The reconstructions of n images.

    Attributes:
        images: E[x|z], (n, *data), on the device of the model.
        code: which z: 'the posterior mean' or 'one sample of the posterior'.
    """

    images: Tensor
    code: str


def reconstruct(model: LatentModel, x: Tensor, seed: int = 0) -> Reconstruction:
    """The mean of p(x|z) at the posterior mean of z, or at one sample where q has none; call it inside `quiet`.

    Raises:
        NotImplementedError: the likelihood has no mean in closed form.
    """
    parts, code = [], "the posterior mean"
    for images in x.split(BATCH):
        try:
            z = model.posterior(images).mean[None]
        except NotImplementedError:
            z, code = codes(model, images, 1, seed), "one sample of the posterior"
        parts.append(mean_image(model, z)[0])
    return Reconstruction(torch.cat(parts), code)


def mean_image(model: LatentModel, z: Tensor) -> Tensor:
    """E[x|z] for z (k, b, *latent): (k, b, *data).

    Raises:
        NotImplementedError: the likelihood has none in closed form.
    """
    p = model.likelihood(z)
    try:
        return p.mean
    except NotImplementedError:
        raise NotImplementedError(f"the likelihood, {type(p).__name__}, has no mean in closed form") from None


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over the values of each image, (n, *data) -> float64 (n,) on the CPU."""
    return (x.double() - y.double()).square().flatten(1).mean(1).cpu()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, −10 log10 mse, dB; infinite where the two are equal."""
    return -10 * mse(x, y).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each image, (n, c, h, w) -> float64 (n,) on the CPU, at most 1.

    Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861), with their Gaussian window: the mean over channels and
    over all pixels whose window lies inside the image. It equals `skimage.metrics.structural_similarity` with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0``, many images at once.

    Raises:
        NotImplementedError: an image is smaller than the window.
    """
    height, width = x.shape[-2:]
    if min(height, width) < WINDOW:
        raise NotImplementedError(f"SSIM's window is {WINDOW} pixels across, and the images are {height} × {width}")
    down, across = _window(height).to(x.device), _window(width).to(x.device)

    def local(t: Tensor) -> Tensor:
        return down.T @ t @ across

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        mx, my = local(x), local(y)
        vx, vy, vxy = local(x * x) - mx * mx, local(y * y) - my * my, local(x * y) - mx * my
        c1, c2 = 0.01**2, 0.03**2
        score = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        return score.flatten(1).mean(1).cpu()

    pairs = zip(x.split(BATCH), y.split(BATCH), strict=True)
    return torch.cat([similarity(a.double(), b.double()) for a, b in pairs])


def _window(size: int) -> Tensor:
    """The matrix (size, size − WINDOW + 1) whose columns are the Gaussian window at every place where it fits."""
    offset = torch.arange(size)[:, None] - torch.arange(size - WINDOW + 1) - WINDOW // 2
    weight = torch.exp(-0.5 * (offset.double() / SIGMA) ** 2) * (offset.abs() <= WINDOW // 2)
    return weight / weight.sum(0)
