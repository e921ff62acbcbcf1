r"""The geometry of a decoder: stretching and bending of latent space, and orthogonality of its units.

With f(z) = E[x|z], D values in [0, 1], and its Jacobian J = ∂f/∂z, (D, n), local properties follow from the metric that
f pulls back to the latents,

.. math:: G(z) = J^\top J, \qquad |f(z + dz) - f(z)|^2 = dz^\top G\, dz + O(|dz|^3)

(Arvanitidis, Hansen & Hauberg 2018, https://arxiv.org/abs/1710.11379): the eigenvalues of G are the squared singular
values of J, and G_jj is the squared norm of the column of unit j. All results are float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.core import LatentModel
from vaebench.evaluation.estimators.reconstruction import mean_image

Decoder = Callable[[Tensor], Tensor]  # codes (b, n) -> images (b, D), each from its own code


def decoder(model: LatentModel, latent: torch.Size) -> Decoder:
    """The function f of a model with latents of shape `latent`, on flattened codes and images.

    It raises Unavailable where the likelihood has no mean in closed form.
    """
    return lambda z: mean_image(model, z.unflatten(-1, latent)[None])[0].flatten(1)


def jacobian(decode: Decoder, z: Tensor) -> Tensor:
    """The exact J at each code by forward-mode differentiation, one pass per latent: (b, n) -> (b, D, n).

    Raises:
        Unavailable: the decoder holds an operation without a forward derivative.
    """
    with torch.inference_mode(False), torch.no_grad():
        z = z.clone()  # a tensor made in inference mode has no derivative
        axes = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        return torch.stack([torch.func.jvp(decode, (z,), (axis.repeat(len(z), 1),))[1] for axis in axes], -1)


# One code -------------------------------------------------------------------------------------------------------------


def metric(jacobian: Tensor) -> Tensor:
    """G = JᵀJ, (b, D, n) -> (b, n, n)."""
    jacobian = jacobian.double()
    return (jacobian.mT @ jacobian).cpu()


def singular_values(metric: Tensor) -> Tensor:
    """The singular values of J, largest first, (b, n, n) -> (b, n); 0 below the rounding error of G."""
    return _eigenvalues(metric).sqrt()


def participation(metric: Tensor) -> Tensor:
    r"""Effective number of directions at a code, :math:`(\sum_i \sigma_i^2)^2 / \sum_i \sigma_i^4`, in [1, n].

    The participation ratio of the eigenvalues of G: it is m where m singular values are equal and the others zero.
    (b, n, n) -> (b,).
    """
    return _trace(metric).square() / metric.square().sum((-2, -1))


def frobenius_norm(metric: Tensor) -> Tensor:
    """‖J‖_F = √tr G, (b, n, n) -> (b,)."""
    return _trace(metric).sqrt()


def cosines(metric: Tensor) -> Tensor:
    """|cos| of the angle between the columns of J, the mean over pairs of units: (b, n, n) -> (b,), in [0, 1].

    Zero where the columns are orthogonal, as those of a VAE with a diagonal posterior tend to be (Rolinek, Zietlow &
    Martius 2019, https://arxiv.org/abs/1812.06775). Random columns have √(2/πD) on average, the reference for a small
    value. NaN for a single unit, or where a column is zero.
    """
    cosine = _correlation(metric).abs()
    n = cosine.shape[-1]
    return (cosine.sum((-2, -1)) - _trace(cosine)) / (n * (n - 1))


def contrast(metric: Tensor) -> Tensor:
    r"""The local contrast of independent mechanisms, nats, (b, n, n) -> (b,), at least 0.

    .. math:: \sum_j \log |J_j| - \tfrac12 \log \det J^\top J

    Gresele et al. 2021 (https://arxiv.org/abs/2106.05200), extended to a larger space as by Ghosh et al. 2023
    (https://arxiv.org/abs/2312.13438): zero only where the columns are orthogonal, infinite where they are not
    independent, the same for any scales of the units. NaN where a column is zero.
    """
    return -0.5 * _eigenvalues(_correlation(metric)).log().sum(-1)


def sparsity(jacobian: Tensor) -> Tensor:
    r"""Sparsity of a unit's effect on pixels, (b, D, n) -> (b, n), in [0, 1]: 1 for a single pixel, 0 for all alike.

    .. math:: (\sqrt D - |J_j|_1 / |J_j|_2) / (\sqrt D - 1)

    Hoyer 2004, section 3.1 (https://www.jmlr.org/papers/v5/hoyer04a.html). NaN for a column of zeros.
    """
    jacobian, root = jacobian.double(), jacobian.shape[-2] ** 0.5
    return ((root - jacobian.norm(1, -2) / jacobian.norm(2, -2)) / (root - 1)).cpu()


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _eigenvalues(matrix: Tensor) -> Tensor:
    """Largest first, 0 where they are rounding, NaN where the matrix is not finite, which eigvalsh refuses."""
    values = torch.linalg.eigvalsh(matrix.nan_to_num(0.0, 0.0, 0.0)).flip(-1)
    rounding = values.shape[-1] * torch.finfo(values.dtype).eps * values[..., :1]
    finite = torch.isfinite(matrix).all(-1).all(-1)[..., None]
    return torch.where(finite, torch.where(values > rounding, values, 0.0), torch.nan)


def _correlation(metric: Tensor) -> Tensor:
    scale = metric.diagonal(dim1=-2, dim2=-1).sqrt()
    return metric / (scale[..., None] * scale[..., None, :])


# Between two codes ----------------------------------------------------------------------------------------------------


class Interpolation(NamedTuple):
    """The decoded straight line between two codes, (b,) each.

    Attributes:
        length: of the decoded line, Σ_i |x_{i+1} − x_i|.
        chord: |x_T − x_0|.
        turning: Σ_i of the angles between successive pieces, rad.
    """

    length: Tensor
    chord: Tensor
    turning: Tensor


def path(decode: Decoder, a: Tensor, b: Tensor, steps: int) -> Interpolation:
    """Decodes the line from code a to code b, (m, n) each, at steps + 1 evenly spaced points.

    Length and turning are those of an inscribed polygon, which grow with the steps to the curve's length and total
    curvature ∫ κ ds (Milnor 1950, https://doi.org/10.2307/1969467). The turning is NaN where a piece has no length.
    """
    places = torch.linspace(0, 1, steps + 1, dtype=a.dtype, device=a.device)
    points = torch.stack([decode(torch.lerp(a, b, t)).double() for t in places])
    pieces = points.diff(dim=0)
    lengths = pieces.norm(dim=-1)
    headings = pieces / lengths[..., None]
    before, after = headings[:-1], headings[1:]
    turns = 2 * torch.atan2((after - before).norm(dim=-1), (after + before).norm(dim=-1))  # exact for small angles
    return Interpolation(lengths.sum(0).cpu(), (points[-1] - points[0]).norm(dim=-1).cpu(), turns.sum(0).cpu())
