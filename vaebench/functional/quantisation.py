"""Quantisation of vectors by codebooks, and updates of codebooks by moving averages.

A codebook is (l, k, d): l levels of k codes, each a vector of d values. One level is ordinary vector quantisation; with
several, each level quantises the residual of the levels before it. Codes of an image are (…, n, l): n places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vaebench.functional.objectives import with_gradient


class Quantised(NamedTuple):
    """Quantised vectors.

    Attributes:
        indices: of the codes, (…, n, l), whole numbers.
        codes: their vectors, (…, n, l, d).
        inputs: of each level, (…, n, l, d); differences to `codes` are the errors.
    """

    indices: Tensor
    codes: Tensor
    inputs: Tensor


class Processes(Protocol):
    """The processes that train one model together, each on its own images; often there is but one."""

    def pooled(self, figure: Tensor) -> Tensor:
        """The mean of a figure over the processes."""

    def of_first(self, figure: Tensor) -> Tensor:
        """The figure of the first process."""


class Memory(NamedTuple):
    """The state of a codebook: moving averages of the frequency of each code, and of the vectors assigned to it.

    Attributes:
        shares: N, the share of places with a code, (l, k).
        sums: m, the sum of the vectors assigned to a code over the number of places, (l, k, d).
    """

    shares: Tensor
    sums: Tensor


def nearest_codes(vectors: Tensor, book: Tensor) -> Tensor:
    """Indices of the codes closest to vectors (…, n, l, d), each among its level's (l, k, d): (…, n, l)."""
    products = torch.einsum("...ld,lkd->...lk", vectors, book)
    return (book.square().sum(-1) - 2 * products).argmin(-1)


def looked_up(indices: Tensor, book: Tensor) -> Tensor:
    """The vectors of codes: indices (…, n, l) and a codebook (l, k, d) -> (…, n, l, d)."""
    return book[torch.arange(len(book), device=book.device), indices]


def quantised(vectors: Tensor, book: Tensor) -> Quantised:
    """Residual quantisation: every level uses the code closest to the residual of the levels before it.

    van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) at one level; at several, Zeghidour et al. 2021,
    algorithm 1 (https://arxiv.org/abs/2107.03312). Errors pass their gradient to the vectors alone.

    Args:
        vectors: (…, n, d).
        book: (l, k, d).
    """
    levels = []
    for level in book.unbind(0):
        index = nearest_codes(vectors[..., None, :], level[None])
        code = looked_up(index, level[None])
        levels.append(Quantised(index, code, vectors[..., None, :]))
        vectors = vectors - code[..., 0, :]
    indices, codes, inputs = zip(*levels, strict=True)
    return Quantised(torch.cat(indices, -1), torch.cat(codes, -2), torch.cat(inputs, -2))


def commitment(nearest: Quantised) -> Tensor:
    """Σ over places, levels and values of |vector − code|², per image: (b, n, l, d) -> (b,); codes are detached."""
    return (nearest.inputs - nearest.codes.detach()).square().sum((-3, -2, -1))


def book_of(memory: Memory, smoothing: float = 1e-5) -> Tensor:
    r"""The codebook, (l, k, d): the mean of the vectors assigned to each code, with Laplace smoothing of frequencies.

    .. math:: e_i = m_i / \tilde N_i, \qquad \tilde N_i = \frac{N_i + \epsilon}{\sum_j N_j + K \epsilon} \sum_j N_j

    van den Oord et al. 2017, appendix A.1 (https://arxiv.org/abs/1711.00937), with shares in place of counts, so
    that ε does not depend on the number of vectors in a batch.

    Args:
        memory: the current state.
        smoothing: ε > 0, in shares.
    """
    total = memory.shares.sum(-1, keepdim=True)
    smooth = (memory.shares + smoothing) / (total + memory.shares.shape[-1] * smoothing) * total
    return memory.sums / smooth[..., None]


def taken(nearest: Quantised, size: int) -> Memory:
    """The statistics of one batch: shares of the k = `size` codes and sums of their vectors, without gradients."""
    indices, inputs = (
        nearest.indices.flatten(0, -2),
        nearest.inputs.detach().flatten(0, -3),
    )  # (places, l), (places, l, d)
    one_hot = (indices[..., None] == torch.arange(size, device=indices.device)).to(inputs.dtype)
    return Memory(one_hot.mean(0), torch.einsum("plk,pld->lkd", one_hot, inputs) / len(inputs))


def moved(memory: Memory, batch: Memory, decay: Tensor) -> Memory:
    """N ← γ N + (1 − γ) n and m ← γ m + (1 − γ) Σ z: the state of a codebook after one more batch.

    Args:
        memory: the state before it.
        batch: its statistics, from `taken`.
        decay: γ in [0, 1).
    """
    return Memory(*(decay * old + (1 - decay) * new for old, new in zip(memory, batch, strict=True)))


def drawn(nearest: Quantised, size: int) -> Tensor:
    """A vector of the batch for each of the k = `size` codes, drawn at random with replacement: (l, k, d)."""
    levels = nearest.indices.shape[-1]
    inputs = nearest.inputs.detach().flatten(0, -3).transpose(0, 1)  # (l, places, d)
    uniform = torch.rand((levels, size), dtype=inputs.dtype, device=inputs.device)
    rows = (uniform * inputs.shape[1]).long().clamp(max=inputs.shape[1] - 1)
    return inputs.gather(1, rows[..., None].expand(levels, size, inputs.shape[2]))


def revived(memory: Memory, fresh: Tensor, dead: Tensor) -> Memory:
    """Resets each dead code to a fresh vector, with a share of 1/k.

    With those of `drawn` it is the random restart of Dhariwal et al. 2020 (https://arxiv.org/abs/2005.00341).

    Args:
        memory: the current state.
        fresh: a vector for each code, (l, k, d).
        dead: dead codes, (l, k) booleans.
    """
    size = dead.shape[-1]
    sums = torch.where(dead[..., None], fresh / size, memory.sums)
    return Memory(torch.where(dead, 1 / size, memory.shares), sums)


def entropy(shares: Tensor) -> Tensor:
    """−Σ p log p over the last dimension, nats; its exponential is the perplexity, from 1 to the number of codes."""
    least = torch.finfo(shares.dtype).tiny  # a share of 0 adds 0, and has a gradient
    return -torch.special.xlogy(shares, shares.clamp(min=least)).sum(-1)


def rounded(vectors: Tensor, levels: Tensor) -> Tensor:
    r"""Finite scalar quantisation: every value is squashed and rounded to one of its levels in [−1, 1].

    .. math:: \mathrm{round}\big(h \tanh(z + s) - o\big) / \lfloor L/2 \rfloor, \qquad h = (L - 1)(1 + 10^{-3}) / 2

    with o = 1/2 and s = artanh(o/h) for an even number of levels L, else 0: at most L values, and 0 goes to 0. The
    gradient is straight-through. Mentzer et al. 2023 (https://arxiv.org/abs/2309.15505).

    Args:
        vectors: (…, d).
        levels: L of each of the d values, 2 or more, (d,), on their device.
    """
    count = levels.to(vectors.dtype)
    half, offset = (count - 1) * (1 + 1e-3) / 2, 0.5 * (count % 2 == 0)
    squashed = half * torch.tanh(vectors + torch.atanh(offset / half)) - offset
    return with_gradient(squashed.round(), squashed) / (count // 2)


def grid(levels: Sequence[int]) -> Tensor:
    """All outputs of `rounded`, as a codebook of one level: (1, Π L, d)."""
    sides = [torch.arange(-(count // 2), count - count // 2) / (count // 2) for count in levels]
    return torch.cartesian_prod(*sides).reshape(1, -1, len(levels))


def quantised_signs(vectors: Tensor) -> Tensor:
    """+1 where a value is positive, else −1, with a straight-through gradient: lookup-free quantisation, (…, d).

    Yu et al. 2023 (https://arxiv.org/abs/2310.05737).
    """
    return with_gradient(torch.where(vectors > 0, 1.0, -1.0).to(vectors.dtype), vectors)


def assignment_entropies(vectors: Tensor, book: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean entropy of the soft code assignments, and entropy of their mean, nats, 0-dim each.

    .. math:: E[H(c|z)], \; H(E[p(c|z)]), \qquad p(c|z) \propto \exp(-|z - c|^2 / \tau)

    The difference of the two is the mutual information of vector and code (Yu et al. 2023, section 3).

    Args:
        vectors: z, (…, d), over which the means are taken.
        book: codes, (1, k, d).
        temperature: τ > 0.
    """
    flat = vectors.flatten(0, -2)
    log_p = torch.log_softmax((2 * flat @ book[0].T - book[0].square().sum(-1)) / temperature, -1)
    return -(log_p.exp() * log_p).sum(-1).mean(), entropy(log_p.exp().mean(0))
