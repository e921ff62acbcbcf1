"""Causal networks over a sequence of codes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.errors import UserError
from vaebench.networks import Linear
from vaebench.networks.pixelcnn import GatedPixelCNN

Pick = Callable[[Tensor], Tensor]


class CodeNetwork(nn.Module, ABC):
    """Logits of every code of a sequence from the preceding codes, from the length m and the number k of codes."""

    @abstractmethod
    def forward(self, indices: Tensor) -> Tensor:
        """Indices (*batch, m) to logits (*batch, m, k); logits at i depend only on indices before i."""

    @abstractmethod
    def sample(self, pick: Pick, n: int) -> Tensor:
        """n sequences, (n, m), sampled code by code; `pick` maps logits (n, k) to indices (n,)."""


class _Block(nn.Module):
    """A pre-norm transformer block: causal self-attention and two layers at each position, both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.mix = Linear(width, 3 * width), Linear(width, width)
        self.widen, self.narrow = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        """(b, m, width) -> (b, m, width); position i reads positions 0 to i."""
        b, m, width = h.shape
        parts = self.attend(self.before(h).flatten(0, 1)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.unflatten(0, (b, m)).permute(2, 0, 3, 1, 4).unbind(0)  # (b, heads, m, width/heads)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width / self.heads)
        later = torch.ones(m, m, dtype=torch.bool, device=h.device).triu(1)
        read = scores.masked_fill(later, -math.inf).softmax(-1) @ value
        h = h + self.mix(read.transpose(1, 2).flatten(2).flatten(0, 1)).unflatten(0, (b, m))
        return h + self.narrow(F.gelu(self.widen(self.between(h).flatten(0, 1)))).unflatten(0, (b, m))


@final
class Causal(CodeNetwork):
    """A small transformer: logits of every code of a sequence from the preceding codes.

    Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), with pre-norm blocks, without dropout.

    Args:
        count: m, the length of a sequence.
        size: k, the number of codes.
        width: embedding size, a multiple of `heads`.
        depth: number of blocks.
        heads: number of attention heads.

    Raises:
        UserError: the width is not a multiple of the heads.
    """

    def __init__(self, count: int, size: int, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise UserError(
                f"Causal has width {width} and {heads} heads: expected a multiple of the heads; change net.width"
            )
        self.count = count
        self.start = nn.Parameter(torch.randn(width))
        self.code = nn.Parameter(torch.randn(size, width))
        self.place = nn.Parameter(torch.randn(count, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.last, self.head = nn.LayerNorm(width), Linear(width, size)

    def forward(self, indices: Tensor) -> Tensor:
        batch, m = indices.shape[:-1], indices.shape[-1]
        seen = self.code[indices.reshape(-1, m)[:, :-1]]
        h = torch.cat([self.start.expand(len(seen), 1, -1), seen], 1) + self.place
        for block in self.blocks:
            h = block(h)
        return self.head(self.last(h).flatten(0, 1)).reshape(*batch, m, -1)

    def sample(self, pick: Pick, n: int) -> Tensor:
        """One pass of the network per code."""
        indices = torch.zeros(n, self.count, dtype=torch.long, device=self.start.device)
        for i in range(self.count):
            indices[:, i] = pick(self(indices)[:, i])
        return indices


@final
class CausalGrid(CodeNetwork):
    """A gated PixelCNN over codes on a grid in raster order: logits of every code from the preceding codes.

    van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) fit one to the codes of a VQ-VAE. Its inputs are learned
    embeddings of codes plus embeddings of positions, which distinguish positions without spatial order, or of several
    levels. A code depends on the preceding ones in the network's receptive field (`networks.pixelcnn.GatedPixelCNN`),
    by default a whole grid of 7 × 7.

    Args:
        count: m, the length of a sequence: rows times columns.
        size: k, the number of codes.
        rows: of the grid; None for a square grid.
        width: embedding size.
        channels, layers, kernel: see `GatedPixelCNN`.

    Raises:
        UserError: the number of codes does not fit the grid.
    """

    def __init__(
        self,
        count: int,
        size: int,
        rows: int | None = None,
        width: int = 16,
        channels: int = 32,
        layers: int = 6,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        side = math.isqrt(count) if rows is None else rows
        if side < 1 or count % side or (rows is None and side**2 != count):
            raise UserError(
                f"CausalGrid has {count} codes, which make no {'square' if rows is None else f'grid of {rows} rows'}: "
                "expected rows × columns; set model.prior.net.rows so, or change model.latent"
            )
        self.grid = (side, count // side)
        self.code, self.place = (nn.Parameter(torch.randn(n, width)) for n in (size, count))
        self.net = GatedPixelCNN((width, *self.grid), size, channels=channels, layers=layers, kernel=kernel)

    def forward(self, indices: Tensor) -> Tensor:
        batch, m = indices.shape[:-1], indices.shape[-1]
        read = self.code[indices.reshape(-1, m)] + self.place
        logits = self.net(read.transpose(1, 2).unflatten(-1, self.grid))  # (b, k, rows, columns)
        return logits.flatten(2).transpose(1, 2).reshape(*batch, m, -1)

    def sample(self, pick: Pick, n: int) -> Tensor:
        """Samples at about the cost of one pass, with cached activations of earlier codes."""
        picked: list[Tensor] = []

        def draw(logits: Tensor) -> Tensor:
            picked.append(pick(logits[..., 0, 0]))
            return (self.code[picked[-1]] + self.place[len(picked) - 1])[..., None, None]

        self.net.sample(draw, n)
        return torch.stack(picked, -1)
