"""Structural similarity of images with values in [0, 1], at one scale and at several: pure and differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # pixels: the window across, and the standard deviation of its weights
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, fine to coarse
LEAST = 1e-6  # lower limit of similarities, which may be negative, before a fractional power


def compared(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Structural similarity of every channel, and its factor that compares contrast and structure; at most 1.

    Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861): means over pixels whose window lies inside the image.

    Args:
        x, y: images that broadcast against each other, (*batch, c, h, w), no side shorter than `WINDOW`.

    Returns:
        Two tensors (*batch, c).
    """
    down, across = (_window(size).to(x) for size in x.shape[-2:])

    def local(t: Tensor) -> Tensor:
        return down.T @ t @ across

    mx, my = local(x), local(y)
    vx, vy, vxy = local(x * x) - mx * mx, local(y * y) - my * my, local(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    contrast = (2 * vxy + c2) / (vx + vy + c2)
    similarity = (2 * mx * my + c1) / (mx * mx + my * my + c1) * contrast
    return similarity.mean((-2, -1)), contrast.mean((-2, -1))


def ms_ssim(x: Tensor, y: Tensor, scales: int) -> Tensor:
    r"""Multi-scale structural similarity, in (0, 1], of similarities averaged over channels: (*batch,).

    .. math:: S_M(x_M, y_M)^{w_M} \prod_{m < M} C_m(x_m, y_m)^{w_m}

    with the similarity S of the coarsest scale, the contrast and structure C of the finer ones, and images averaged
    over 2 × 2 pixels from one scale to the next. Wang, Simoncelli & Bovik 2003 (https://doi.org/10.1109/ACSSC.2003.1292216);
    for fewer than their five scales the first of their weights are divided by their sum.

    Args:
        x, y: as in `compared`.
        scales: M, from 1 to `most_scales`.
    """
    total = 1.0 if scales == len(WEIGHTS) else sum(WEIGHTS[:scales])
    weights = [w / total for w in WEIGHTS[:scales]]
    product = torch.ones((), dtype=x.dtype, device=x.device)
    for weight in weights[:-1]:
        product = product * compared(x, y)[1].mean(-1).clamp(min=LEAST) ** weight
        x, y = _halved(x), _halved(y)
    return product * compared(x, y)[0].mean(-1).clamp(min=LEAST) ** weights[-1]


def most_scales(height: int, width: int) -> int:
    """The number of scales at which the window fits into an image, 0 to 5."""
    return sum(min(height, width) // 2**m >= WINDOW for m in range(len(WEIGHTS)))


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x.flatten(0, -4), 2).unflatten(0, x.shape[:-3])


def _window(size: int) -> Tensor:
    """The matrix (size, size − WINDOW + 1) whose columns are the Gaussian window at every position."""
    offset = torch.arange(size)[:, None] - torch.arange(size - WINDOW + 1) - WINDOW // 2
    weight = torch.exp(-0.5 * (offset.double() / SIGMA) ** 2) * (offset.abs() <= WINDOW // 2)
    return weight / weight.sum(0)
