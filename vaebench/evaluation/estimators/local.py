"""Gaussians and flows with separate parameters for every image, fitted at evaluation."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

COUPLINGS = 4  # of a flow; even, so that the flips of the units cancel
HIDDEN = 32  # units of a coupling's network


class Coupling(NamedTuple):
    """An affine coupling for each of b images: one half of the units shifts and scales the other, then all are flipped.

    (a, c) -> flip(a, c e^s + t) with (s, t) = tanh(a V + v) W + w, s bounded to (−1, 1) by tanh: Dinh et al. 2017,
    https://arxiv.org/abs/1605.08803.
    """

    inner: Tensor  # V, (b, ⌈d/2⌉, HIDDEN)
    inner_bias: Tensor  # v, (b, 1, HIDDEN)
    outer: Tensor  # W, (b, HIDDEN, 2 ⌊d/2⌋)
    outer_bias: Tensor  # w, (b, 1, 2 ⌊d/2⌋)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u (b, k, d) -> (b, k, d), and the log-determinant, (b, k)."""
        kept, changed = u.tensor_split([self.inner.shape[1]], -1)
        log_scale, shift = self._affine(kept)
        return torch.cat([kept, changed * log_scale.exp() + shift], -1).flip(-1), log_scale.sum(-1)

    def inverse(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The input of `forward` that gives u, and its log-determinant there, (b, k)."""
        kept, changed = u.flip(-1).tensor_split([self.inner.shape[1]], -1)
        log_scale, shift = self._affine(kept)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], -1), log_scale.sum(-1)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(torch.baddbmm(self.inner_bias, kept, self.inner))
        log_scale, shift = torch.baddbmm(self.outer_bias, hidden, self.outer).chunk(2, -1)
        return torch.tanh(log_scale), shift


class Posteriors(NamedTuple):
    """q(z|x) of each of b images: z = origin + unit ⊙ (shift + L u), u = couplings(ε), ε ~ N(0, I_d).

    L has e^log_scale on its diagonal and `below` beneath it. The fitted parameters, shift, log_scale, below and the
    couplings, are in units of the initial standard deviations.

    Attributes:
        origin, unit: (b, d), fixed.
        shift, log_scale: (b, d).
        below: (b, d, d), used below the diagonal; None: L is diagonal.
        couplings: none for a Gaussian.
    """

    origin: Tensor
    unit: Tensor
    shift: Tensor
    log_scale: Tensor
    below: Tensor | None = None
    couplings: tuple[Coupling, ...] = ()

    @property
    def diagonal(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """origin, unit, shift and log_scale: all of a diagonal Gaussian."""
        return self.origin, self.unit, self.shift, self.log_scale

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """ε (b, k, d) -> z (b, k, d) and log q(z|x), nats, (b, k).

        The density comes from the forward pass and needs no inverse, whose rounding errors could break a bound on
        log p(x).
        """
        u, log_det = noise, self._scale()
        for coupling in self.couplings:
            u, log_scale = coupling.forward(u)
            log_det = log_det + log_scale
        v = u * self.log_scale.exp()[:, None]
        if self.below is not None:
            v = v + u @ self.below.tril(-1).mT
        z = self.origin[:, None] + self.unit[:, None] * (self.shift[:, None] + v)
        return z, _standard(noise) - log_det

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) of any z, for gradients in z, nats: z (b, k, d) -> (b, k)."""
        v = (z - self.origin[:, None]) / self.unit[:, None] - self.shift[:, None]
        if self.below is None:
            u = v * (-self.log_scale).exp()[:, None]
        else:
            lower = self.below.tril(-1) + torch.diag_embed(self.log_scale.exp())
            u = torch.linalg.solve_triangular(lower, v.mT, upper=False).mT
        log_det = self._scale()
        for coupling in reversed(self.couplings):
            u, log_scale = coupling.inverse(u)
            log_det = log_det + log_scale
        return _standard(u) - log_det

    def _scale(self) -> Tensor:
        """The log-determinant of all but the couplings, (b, 1)."""
        return (self.log_scale + self.unit.log()).sum(-1, keepdim=True)

    def fitted(self) -> list[Tensor]:
        """The fitted tensors; the first axis of each counts images."""
        below = [] if self.below is None else [self.below]
        return [self.shift, self.log_scale, *below, *(tensor for c in self.couplings for tensor in c)]

    def replaced(self, fitted: list[Tensor]) -> Posteriors:
        """A copy with other fitted tensors."""
        shift, log_scale, *rest = fitted
        below = None if self.below is None else rest.pop(0)
        couplings = tuple(Coupling(*rest[i : i + 4]) for i in range(0, len(rest), 4))
        return Posteriors(self.origin, self.unit, shift, log_scale, below, couplings)

    def as_flow(self) -> Posteriors:
        """A flow with full L and couplings that equals this diagonal Gaussian until it is fitted."""
        images, d = self.origin.shape
        zeros = self.origin.new_zeros
        generator = torch.Generator().manual_seed(0)
        kept, changed = (d + 1) // 2, d // 2
        couplings = []
        for _ in range(COUPLINGS if d > 1 else 0):
            inner = torch.randn(kept, HIDDEN, generator=generator).to(self.origin) / math.sqrt(kept)
            couplings.append(
                Coupling(
                    inner.expand(images, -1, -1),
                    zeros(images, 1, HIDDEN),
                    zeros(images, HIDDEN, 2 * changed),
                    zeros(images, 1, 2 * changed),
                )
            )
        unit = self.unit * self.log_scale.exp()
        origin = self.origin + self.unit * self.shift
        return Posteriors(origin, unit, zeros(images, d), zeros(images, d), zeros(images, d, d), tuple(couplings))


def _standard(u: Tensor) -> Tensor:
    """log N(u; 0, I), nats, (b, k, d) -> (b, k)."""
    return -(u.square().sum(-1) + math.log(2 * math.pi) * u.shape[-1]) / 2
