"""Tests whether a model copies its training images: whether samples lie closer to them than test images do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, tiecorrect
from sklearn.cluster import KMeans
from torch import Tensor

from vaebench.errors import Unavailable

ROWS = 100  # of a distance matrix in memory at once
FITTED = 5000  # most training images to which cells are fitted
FEWEST = 20  # samples and test images in a cell


class Nearest(NamedTuple):
    """The nearest training image of each of n images.

    Attributes:
        distance: Euclidean, float64 (n,) on the CPU.
        image: index of that training image, (n,), on the CPU.
    """

    distance: Tensor
    image: Tensor


class Copying(NamedTuple):
    """The data-copying test.

    Attributes:
        c_t: mean over the cells of the Z-score of Mann and Whitney's U, weighted by the cells' test images: far below
            0 where the model copies, far above 0 where its samples lie farther from the training images than test
            images do.
        p: probability of a sum of the same weighted scores as low as this one if samples were distributed as test
            images; uniform on [0, 1] then.
        cells: number of cells that hold at least 20 samples and 20 test images.
    """

    c_t: float
    p: float
    cells: int


def nearest_neighbours(x: Tensor, train: Tensor) -> Nearest:
    """The nearest of training vectors (t, d) to each of x (n, d), on one device, searched in float32."""
    known = train.float()
    lengths = known.square().sum(1)
    best = [torch.addmm(lengths, part, known.T, alpha=-2).min(1).indices for part in x.float().split(ROWS)]
    index = torch.cat(best)
    return Nearest((x - train[index]).double().square().sum(1).sqrt().cpu(), index.cpu())


def copying(samples: Tensor, test: Tensor, cells: NDArray[np.int64], others: NDArray[np.int64]) -> Copying:
    r"""Meehan, Chaudhuri & Dasgupta 2020 (https://arxiv.org/abs/2004.05675), with a p-value.

    .. math::
        C_T = \sum_\pi w_\pi Z_\pi / \sum_\pi w_\pi, \quad
        p = \Phi\big(\sum_\pi w_\pi Z_\pi / \sqrt{\sum_\pi w_\pi^2}\big)

    Within a cell, samples that are distributed as test images are exchangeable with them, so that Z is standard normal
    and cells are independent given their counts. Ties share their ranks, and shrink the variance that Z is divided by.

    Args:
        samples: distances of m samples to their nearest training images, (m,).
        test: those of n test images, (n,).
        cells: cell of each sample, (m,).
        others: cell of each test image, (n,).

    Raises:
        Unavailable: no cell holds enough of both.
    """
    scores, weights = [], []
    for cell in np.unique(others):
        a, b = samples.numpy()[cells == cell], test.numpy()[others == cell]
        if min(len(a), len(b)) >= FEWEST:
            scores.append(_z(a, b))
            weights.append(len(b))
    if not scores:
        raise Unavailable(f"no cell holds {FEWEST} samples and {FEWEST} test images")
    z, w = np.array(scores), np.array(weights, float)
    return Copying(float(z @ w / w.sum()), float(norm.cdf(z @ w / np.sqrt(w @ w))), len(z))


def _z(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mann and Whitney's U of a over b, less its mean, in standard deviations; 0 where all are equal."""
    m, n = len(a), len(b)
    ranks = rankdata(np.concatenate([a, b]))
    variance = m * n / 12 * (m + n + 1) * tiecorrect(ranks)
    u = ranks[:m].sum() - m * (m + 1) / 2
    return float((u - m * n / 2) / np.sqrt(variance)) if variance > 0 else 0.0


def partition(train: Tensor, count: int, seed: int, *sets: Tensor) -> list[NDArray[np.int64]]:
    """The cell of every member of every set (n, d): those of k-means on up to 5,000 of the training vectors (t, d).

    Raises:
        Unavailable: a vector is not finite, or there are fewer training vectors than cells.
    """
    if len(train) < count:
        raise Unavailable(f"{len(train)} training images are fewer than the {count} cells")
    if not all(torch.isfinite(members).all() for members in sets):
        raise Unavailable("the model makes images that are not finite")
    step = -(-len(train) // FITTED)
    fitted = KMeans(count, n_init=1, random_state=seed % 2**32).fit(_array(train[::step]))
    return [fitted.predict(_array(members)).astype(np.int64) for members in sets]


def _array(x: Tensor) -> NDArray[np.float32]:
    return x.float().cpu().numpy()
