"""Distances between two sets of images in a feature space, and precision, recall, density and coverage.

Standard errors and bias corrections come from a grouped jackknife: both sets are divided into the same number of
groups, and group g is left out of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.errors import Unavailable
from vaebench.evaluation.estimators.moments import average

GROUPS = 20
FEWEST = 2 * GROUPS  # images of each set
NEAREST, COVERED = 3, 5  # k of precision and recall, and of density and coverage, as in their papers
ROWS = 100  # of a matrix of distances or kernels held at once: more leave the cache


class JackknifeEstimate(NamedTuple):
    """A figure of two sets.

    Attributes:
        value: the plain estimate.
        corrected: without its bias of order 1/n, by the jackknife; it may be negative.
        se: standard error by the jackknife.
    """

    value: float
    corrected: float
    se: float


def _jackknife(estimate: Callable[[Tensor], Tensor]) -> JackknifeEstimate:
    """The jackknife of a 0-dim function of the groups in use, (GROUPS,) booleans."""
    everything = torch.ones(GROUPS, dtype=torch.bool)
    value = estimate(everything)
    left_out = torch.stack([estimate(everything.index_fill(0, torch.tensor(g), False)) for g in range(GROUPS)])
    corrected = GROUPS * value - (GROUPS - 1) * left_out.mean()
    se = ((GROUPS - 1) * left_out.var(correction=0)).sqrt()
    return JackknifeEstimate(float(value), float(corrected), float(se))


def require_comparable(x: Tensor, y: Tensor) -> None:
    """Raises `Unavailable` for features of made images x and test images y that cannot be compared."""
    if min(len(x), len(y)) < FEWEST:
        raise Unavailable(f"{len(x)} made and {len(y)} test images are too few: at least {FEWEST} of each are needed")
    _require_finite(x)


def _require_finite(x: Tensor) -> None:
    if not torch.isfinite(x).all():
        raise Unavailable("the model makes images that are not finite")


def fid(x: Tensor, y: Tensor) -> JackknifeEstimate:
    r"""Squared Fréchet distance between Gaussians with the moments of features x (m, d) and y (n, d), float64.

    .. math:: \|\mu_x - \mu_y\|^2 + \mathrm{tr}(\Sigma_x + \Sigma_y - 2 (\Sigma_x \Sigma_y)^{1/2})

    Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), whose name is for Inception's features only. With covariances
    of m and n images it is biased upward by terms in 1/m and 1/n, which the corrected figure lacks, as FID_∞ does
    (Chong & Forsyth 2020, https://arxiv.org/abs/1911.07023).
    """
    centre = y.mean(0)
    moments = [_group_moments(t - centre) for t in (x, y)]

    def distance(kept: Tensor) -> Tensor:
        (mx, cx), (my, cy) = (_moments(*groups, kept) for groups in moments)
        return frechet(mx, cx, my, cy)

    return _jackknife(distance)


def _group_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sizes (G,), sums (G, d) and sums of products (G, d, d) of every group."""
    member = _membership(x)
    return member.sum(0), member.T @ x, torch.stack([x[g::GROUPS].T @ x[g::GROUPS] for g in range(GROUPS)])


def _moments(size: Tensor, total: Tensor, products: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    n = size[kept].sum()
    mean = total[kept].sum(0) / n
    return mean, (products[kept].sum(0) - n * torch.outer(mean, mean)) / (n - 1)


def frechet(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> Tensor:
    """Squared Fréchet distance between two Gaussians; tr (Σx Σy)^½ is the nuclear norm of Σx^½ Σy^½."""
    cross = torch.linalg.svdvals(_root(cov_x) @ _root(cov_y)).sum()
    return (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def kid(x: Tensor, y: Tensor, paired: bool = False) -> JackknifeEstimate:
    """The unbiased estimate of MMD² under the kernel (⟨a, b⟩ / d + 1)³ between features x (m, d) and y (n, d).

    Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), over all pairs in place of random subsets, which has the
    same expectation and less noise. It may be negative. There is no bias to correct: `value` is the figure.

    Args:
        x: (m, d).
        y: (n, d).
        paired: x_i depends on y_i, m = n: such pairs are then left out.
    """
    xx, yy, xy = (_kernel_sums(a, b) for a, b in ((x, x), (y, y), (x, y)))
    for sums, a, b in ((xx, x, x), (yy, y, y), *([(xy, x, y)] * paired)):
        sums.diagonal().sub_(_kernel((a * b).sum(1), x.shape[1]) @ _membership(a))
    size_x, size_y = _membership(x).sum(0), _membership(y).sum(0)

    def mmd(kept: Tensor) -> Tensor:
        m, n = size_x[kept].sum(), size_y[kept].sum()
        within = xx[kept][:, kept].sum() / (m * (m - 1)) + yy[kept][:, kept].sum() / (n * (n - 1))
        return within - 2 * xy[kept][:, kept].sum() / (m * (n - int(paired)))

    return _jackknife(mmd)


def _membership(x: Tensor) -> Tensor:
    """1 where row i of x belongs to group g, i mod G = g, else 0: (n, G)."""
    return torch.eye(GROUPS, dtype=x.dtype)[torch.arange(len(x)) % GROUPS]


def _kernel(product: Tensor, d: int) -> Tensor:
    base = (product / d).add_(1)
    return (base * base).mul_(base)


def _kernel_sums(x: Tensor, y: Tensor) -> Tensor:
    """Sums of the kernel over all pairs of a group of x and a group of y, (G, G)."""
    member = _membership(y)
    rows = [_kernel(part @ y.T, x.shape[1]) @ member for part in x.split(ROWS)]
    return _membership(x).T @ torch.cat(rows)


class Support(NamedTuple):
    """Membership of two sets in each other's neighbourhoods, float64.

    Attributes:
        precision: 1 where a sample lies in the ball of some image, to the image's 3rd neighbour; (m,).
        recall: 1 where an image lies in the ball of some sample, to the sample's 3rd neighbour; (n,).
        density: a fifth of the number of balls of images, to their 5th neighbours, that a sample lies in; (m,).
        coverage: 1 where an image's ball to its 5th neighbour holds a sample; (n,).
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def support(x: Tensor, y: Tensor) -> Support:
    """Precision, recall, density and coverage of samples x (m, d) and images y (n, d), m and n above 5.

    Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991), k = 3; Naeem et al. 2020
    (https://arxiv.org/abs/2002.09797), k = 5. All depend on m and n.
    """
    near_x, _ = _radii(x)
    near_y, ball_y = _radii(y)
    precision, density = [], []
    recall, coverage = (torch.zeros(len(y), dtype=torch.bool) for _ in range(2))
    for part, radius in zip(x.split(ROWS), near_x.split(ROWS), strict=True):
        distance = squared_distances(part, y)
        inside = distance <= ball_y
        precision.append((distance <= near_y).any(1))
        density.append(inside.sum(1).double() / COVERED)
        recall |= (distance <= radius[:, None]).any(0)
        coverage |= inside.any(0)
    return Support(torch.cat(precision).double(), recall.double(), torch.cat(density), coverage.double())


def _radii(x: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances of each of x (n, d) to its 3rd and its 5th neighbour among the others, (n,) each."""
    nearest = [squared_distances(part, x).topk(COVERED + 1, largest=False).values for part in x.split(ROWS)]
    distances = torch.cat(nearest)  # the nearest is itself
    return distances[:, NEAREST], distances[:, COVERED]


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances between x (m, d) and y (n, d): (m, n)."""
    return torch.addmm(y.square().sum(1), x, y.T, alpha=-2).add_(x.square().sum(1)[:, None]).clamp_(min=0)


def inception_score(classes: Tensor, splits: int = 10) -> tuple[float, float | None]:
    """exp E KL(p(y|x) ‖ p(y)) of class probabilities (n, c): the mean over consecutive splits, and its standard error.

    Salimans et al. 2016 (https://arxiv.org/abs/1606.03498). The error of one split is None.

    Raises:
        Unavailable: probabilities are not finite.
    """
    _require_finite(classes)
    scores = []
    for part in classes.tensor_split(splits):
        gain = torch.special.xlogy(part, part) - torch.special.xlogy(part, part.mean(0))
        scores.append(gain.sum(1).mean().exp())
    return average(torch.stack(scores))
