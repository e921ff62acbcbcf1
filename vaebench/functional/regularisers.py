"""Regularisers: pure functions that compare an aggregate of codes with a target distribution.

Codes of a batch are (b, n): one sample, or mean, of q(z|x) for each of b images, with n latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Literal["rbf", "imq"]
Sampling = Literal["weighted", "stratified"]

# Independence ---------------------------------------------------------------------------------------------------------


class Decomposition(NamedTuple):
    """KL(q(z|x)‖p(z)) split for each of b samples, nats, (b,) each; their sum is log q(z|x) − log p(z) exactly.

    Attributes:
        information: index-code mutual information, log q(z|x) − log q(z).
        correlation: total correlation, log q(z) − Σ_j log q(z_j).
        dimensions: dimension-wise KL, Σ_j log q(z_j) − log p(z).
    """

    information: Tensor
    correlation: Tensor
    dimensions: Tensor


def log_shares(batch: int, size: int, sampling: Sampling, like: Tensor) -> Tensor:
    r"""log W with q(z_i) ≈ Σ_j W_ij q(z_i|x_j) for an aggregate q(z) = (1/N) Σ_n q(z|x_n), from a batch of b images.

    'weighted': W = 1/(N b), the minibatch-weighted sampling of Chen et al. 2018, appendix C; biased downwards.
    'stratified': 1/N for z_i's own image, on the diagonal, and (N − 1)/(N (b − 1)) for each other: unbiased, and the
    exact aggregate where the batch is the whole data set. It is the mean of the paper's minibatch-stratified weights
    over the image that carries the odd one, so it has the same expectation and no larger variance.

    Args:
        batch: b.
        size: N, the number of training images.
        sampling: one of the two.
        like: gives type and device.

    Returns:
        (b, b); rows are samples, columns images.
    """
    own, other = -math.log(size * batch), -math.log(size * batch)
    if sampling == "stratified":
        own, other = -math.log(size), math.log(max(size - 1, 1) / (size * max(batch - 1, 1)))
    diagonal = torch.eye(batch, dtype=like.dtype, device=like.device)
    return own * diagonal + other * (1 - diagonal)


def decompose(log_q: Tensor, log_p: Tensor, log_shares: Tensor) -> Decomposition:
    r"""Splits the divergence of a factorised posterior from the prior, with q(z) estimated from the batch itself.

    .. math:: KL = I_q(x; z) + KL\big(q(z) \| \textstyle\prod_j q(z_j)\big) + \sum_j KL(q(z_j) \| p(z_j))

    Hoffman & Johnson 2016; Chen et al. 2018 (https://arxiv.org/abs/1802.04942).

    Args:
        log_q: log q(z_ij|x_k) of every latent j of sample i under image k, (b, b, n) as [i, k, j].
        log_p: log p(z_i), (b,).
        log_shares: log weights of the images in the aggregate, (b, b), from `log_shares`.
    """
    posterior = log_q.diagonal().sum(0)  # diagonal(): (n, b)
    joint, single = aggregate(log_q, log_shares)
    product = single.sum(-1)
    return Decomposition(posterior - joint, joint - product, product - log_p)


def aggregate(log_q: Tensor, log_shares: Tensor) -> tuple[Tensor, Tensor]:
    """The aggregate Σ_k W_k q(z|x_k) of factorised posteriors: its log-density, and that of its every latent.

    Args:
        log_q: log q(z_ij|x_k) of every latent j of sample i under image k, (b, c, n) as [i, k, j].
        log_shares: log W_ik of the images in the aggregate that a sample is scored under, (b, c).

    Returns:
        log q(z_i), (b,), and log q(z_ij), (b, n), nats.
    """
    return torch.logsumexp(log_q.sum(-1) + log_shares, 1), torch.logsumexp(log_q + log_shares[..., None], 1)


def permuted(z: Tensor) -> Tensor:
    """Each latent permuted separately across the batch: (b, n) samples of Π_j q(z_j) from samples of q(z).

    Kim & Mnih 2018, algorithm 1 (https://arxiv.org/abs/1802.05983).
    """
    return z.gather(0, torch.rand(z.shape, dtype=z.dtype, device=z.device).argsort(0))


def discrimination(real: Tensor, fake: Tensor) -> Tensor:
    """The cross-entropy of a critic that discriminates two kinds of samples, nats per sample; log 2 at chance; 0-dim.

    Args:
        real: logits of D = 1 for samples of the first kind, (m,).
        fake: the same for as many of the second.
    """
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def covariance(z: Tensor) -> Tensor:
    """The covariance (1/b) Σ_i (z_i − z̄)(z_i − z̄)ᵀ over the batch: (b, n) -> (n, n)."""
    centred = z - z.mean(0)
    return centred.T @ centred / len(z)


def off_identity(matrix: Tensor, off_diagonal: Tensor, diagonal: Tensor) -> Tensor:
    """λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − 1)²: distance of a covariance from that of N(0, I); 0-dim.

    Kumar et al. 2018 (https://arxiv.org/abs/1711.00848).

    Args:
        matrix: C, (n, n).
        off_diagonal: λ_od ≥ 0.
        diagonal: λ_d ≥ 0.
    """
    variances = matrix.diagonal()
    return off_diagonal * (matrix.square().sum() - variances.square().sum()) + diagonal * (variances - 1).square().sum()


# Divergences between samples ------------------------------------------------------------------------------------------


def similarity(a: Tensor, b: Tensor, kernel: Kernel, scales: Sequence[float] = (1.0,)) -> Tensor:
    r"""A kernel averaged over bandwidths, in (0, 1]: (a, n), (b, n) -> (a, b).

    With d² = |a − b|² and C = 2 s n, where 2n is the expected d² between samples of N(0, I_n), for each scale s:
    'rbf' is exp(−d²/C), 'imq' (inverse multiquadratic, of heavier tails) C/(C + d²).

    Args:
        a, b: samples.
        kernel: one of the two.
        scales: bandwidths s > 0, in units of the typical squared distance under N(0, I).
    """
    squares = (a[:, None] - b[None]).square().sum(-1)
    bandwidths = [2.0 * scale * a.shape[-1] for scale in scales]
    values = [(-squares / c).exp() if kernel == "rbf" else c / (c + squares) for c in bandwidths]
    return torch.stack(values).mean(0)


def mmd(a: Tensor, b: Tensor, kernel: Kernel, scales: Sequence[float] = (1.0,)) -> Tensor:
    r"""Squared maximum mean discrepancy between samples, (m, n) each, without bias; 0-dim, and may be negative.

    .. math:: \frac{1}{m(m-1)} \sum_{i \ne j} k(a_i, a_j) + k(b_i, b_j) - \frac{2}{m^2} \sum_{i,j} k(a_i, b_j)

    Gretton et al. 2012, https://jmlr.org/papers/v13/gretton12a.html, lemma 6.

    Args:
        a, b: samples.
        kernel, scales: as in `similarity`, whose k(a, a) = 1 leaves the sums over i ≠ j.
    """
    m = len(a)
    within = similarity(a, a, kernel, scales).sum() + similarity(b, b, kernel, scales).sum() - 2 * m
    return within / max(m * (m - 1), 1) - 2 * similarity(a, b, kernel, scales).mean()


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    r"""Squared sliced 2-Wasserstein distance between samples: the mean over directions of the one-dimensional one.

    .. math:: \frac1L \sum_l \frac1m \sum_i \big((\theta_l \cdot a)_{(i)} - (\theta_l \cdot b)_{(i)}\big)^2

    where (i) takes the i-th smallest. Kolouri et al. 2019, https://arxiv.org/abs/1804.01947.

    Args:
        a, b: samples, (m, n) each.
        directions: θ, unit vectors, (L, n).
    """
    return ((a @ directions.T).sort(0).values - (b @ directions.T).sort(0).values).square().mean()


def directions(count: int, like: Tensor) -> Tensor:
    """Unit vectors drawn uniformly on the sphere of the latents of `like` (…, n): (count, n)."""
    raw = torch.randn((count, like.shape[-1]), dtype=like.dtype, device=like.device)
    return raw / raw.norm(dim=-1, keepdim=True)


# One code -------------------------------------------------------------------------------------------------------------


def moments(mean: Tensor, scale: Tensor) -> Tensor:
    """Σ_j μ_j² + (σ_j − 1)²: (b, n), (b, n) -> (b,); like the KL zero only for N(0, I), but not a divergence."""
    return (mean.square() + (scale - 1).square()).sum(-1)


# Weights --------------------------------------------------------------------------------------------------------------


class SpikeAndSlab(NamedTuple):
    """A spike-and-slab lasso of weights (rows, n).

    Attributes:
        log_density: Σ log p(w), nats, 0-dim.
        inclusion: p*, the probability that a weight comes from the slab, (rows, n).
    """

    log_density: Tensor
    inclusion: Tensor


def spike_and_slab(weights: Tensor, mixing: Tensor, slab: Tensor, spike: Tensor) -> SpikeAndSlab:
    r"""The spike-and-slab lasso: each weight is from a wide Laplace density or from a narrow one.

    .. math:: p(w) = \eta\,\frac{\lambda_1}{2} e^{-\lambda_1 |w|} + (1 - \eta)\,\frac{\lambda_0}{2} e^{-\lambda_0 |w|}

    Its gradient is −(p* λ₁ + (1 − p*) λ₀) sign w, that of an EM step with fixed p*. Ročková & George 2018
    (https://doi.org/10.1080/01621459.2016.1260469).

    Args:
        weights: w, (rows, n).
        mixing: η of each column, in (0, 1), (n,).
        slab: λ₁ > 0.
        spike: λ₀ ≥ λ₁.
    """
    magnitude = weights.abs()
    wide = mixing.log() + (slab / 2).log() - slab * magnitude
    narrow = torch.log1p(-mixing) + (spike / 2).log() - spike * magnitude
    log_density = torch.logaddexp(wide, narrow)
    return SpikeAndSlab(log_density.sum(), (wide - log_density).exp())
