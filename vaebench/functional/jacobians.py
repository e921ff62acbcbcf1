"""Penalties on a decoder's Jacobian J = ∂E[x|z]/∂z at each code: exact, or an unbiased estimate from a few directions.

A decoder maps codes (*batch, n) to images (*batch, *data), each from its own code. Forward-mode differentiation in one
direction for all codes, J v, costs one additional pass for any number of pixels; n of them give the Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Decoder = Callable[[Tensor], Tensor]

CHUNK = 16  # directions at once, which bounds the memory of the forward pass


def pushed(decode: Decoder, z: Tensor, directions: Tensor, chunk: int = CHUNK) -> Tensor:
    """J v of every code, differentiable in codes and decoder: (k, *batch, *data).

    Args:
        decode: codes (*batch, n) -> images (*batch, *data).
        z: codes, (*batch, n).
        directions: v, k of them for each code, (k, *batch, n).
        chunk: directions at once.
    """

    codes = z.clone()  # codes that share memory, as one code expanded does, have no dual numbers

    def push(v: Tensor) -> Tensor:
        return torch.func.jvp(decode, (codes,), (v,))[1]

    return torch.func.vmap(push, chunk_size=chunk, randomness="same")(directions)


def axes(z: Tensor, count: int | None = None) -> Tensor:
    """`count` distinct latents of each code, drawn uniformly, as unit vectors; None gives all of them in order.

    Args:
        z: codes, (*batch, n).
        count: 1 to n.

    Returns:
        (count, *batch, n).
    """
    n = z.shape[-1]
    identity = torch.eye(n, dtype=z.dtype, device=z.device)
    if count is None or count >= n:
        return identity.reshape(n, *[1] * (z.dim() - 1), n).expand(n, *z.shape)
    order = torch.rand(z.shape, dtype=z.dtype, device=z.device).argsort(-1)[..., :count]
    return identity[order].movedim(-2, 0)


def signs(z: Tensor, count: int) -> Tensor:
    """Independent signs for every latent of each code, `count` times: (*batch, n) -> (count, *batch, n)."""
    return torch.rand((count, *z.shape), dtype=z.dtype, device=z.device).round() * 2 - 1


def l1(decode: Decoder, z: Tensor, samples: int | None = None) -> Tensor:
    r"""‖J‖₁ = Σ_dj |J_dj| at each code: (*batch,).

    The estimate is (n/k) Σ_j |J e_j|₁ over k of the n columns, drawn uniformly. Projections on random directions, which
    serve a sum of squares, cannot give a sum of absolute values without bias.

    Args:
        decode, z: as in `pushed`.
        samples: k, columns of each code; None, or n, is exact.
    """
    columns = pushed(decode, z, axes(z, samples))
    return columns.abs().flatten(z.dim()).sum(-1).mean(0) * z.shape[-1]


def frobenius(decode: Decoder, z: Tensor, samples: int | None = None) -> Tensor:
    """‖J‖²_F = Σ_dj J_dj² at each code: (*batch,).

    The estimate is the mean of |J v|² over k vectors v of independent signs, for E[v vᵀ] = I (Hutchinson's estimator of
    the trace of JᵀJ). It has no variance where the columns of J are orthogonal.

    Args:
        decode, z: as in `pushed`.
        samples: k; None is exact.
    """
    directions = axes(z) if samples is None else signs(z, samples)
    squares = pushed(decode, z, directions).square().flatten(z.dim()).sum(-1)
    return squares.sum(0) if samples is None else squares.mean(0)


def overlap(decode: Decoder, z: Tensor, samples: int | None = None) -> Tensor:
    r"""Σ_{i≠j} (J_iᵀ J_j)² over the columns of J at each code, zero where they are orthogonal: (*batch,).

    For a vector v of independent signs, |J v|² = Σ_j |J_j|² + Σ_{i≠j} v_i v_j J_iᵀ J_j has the variance
    2 Σ_{i≠j} (J_iᵀ J_j)²; the estimate is half the unbiased sample variance over k of them. Wei et al. 2021
    (https://arxiv.org/abs/2108.07668), who take k = 2, after Peebles et al. 2020 (https://arxiv.org/abs/2008.10599).

    Args:
        decode, z: as in `pushed`.
        samples: k ≥ 2; None is exact.
    """
    if samples is not None:
        return pushed(decode, z, signs(z, samples)).square().flatten(z.dim()).sum(-1).var(0) / 2
    columns = pushed(decode, z, axes(z)).flatten(z.dim()).movedim(0, -2)  # (*batch, n, pixels)
    gram = columns @ columns.mT
    return gram.square().sum((-2, -1)) - gram.diagonal(dim1=-2, dim2=-1).square().sum(-1)
