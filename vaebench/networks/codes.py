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
    """Logits of every code of a sequence from the codes before it; from its length m and the number of codes k."""

    @abstractmethod
    def forward(self, indices: Tensor) -> Tensor:
        """Numbers (*batch, m) to logits (*batch, m, k); those at i do not depend on numbers from i on."""

    @abstractmethod
    def sample(self, pick: Pick, n: int) -> Tensor:
        """n sequences, (n, m), one code after the other, by `pick` from logits (n, k) to numbers (n,)."""


class _Block(nn.Module):
    """Causal self-attention and two layers at each place, both residual and normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.mix = Linear(width, 3 * width), Linear(width, width)
        self.widen, self.narrow = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        """(b, m, width) -> the same; place i reads places 0 to i."""
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
    """A small transformer: logits of every code of a sequence from the codes before it.

    Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), normalised before each part, without dropout.

    Args:
        count: m, the length of a sequence.
        size: k, the number of codes.
        width: of every place, a multiple of `heads`.
        depth: number of blocks.
        heads: of the attention.

    Raises:
        UserError: the width is no multiple of the heads.
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
        """A pass of the network for each of the m codes."""
        indices = torch.zeros(n, self.count, dtype=torch.long, device=self.start.device)
        for i in range(self.count):
            indices[:, i] = pick(self(indices)[:, i])
        return indices


@final
class CausalGrid(CodeNetwork):
    """A gated PixelCNN over codes on a grid, in rows from the top: logits of every code from the codes before it.

    van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) fit one to the codes of a VQ-VAE. It reads a learnt
    vector of each code plus one of its place, so that codes of places in no spatial order, or of several levels, which
    lie side by side, can be told apart. A code sees those before it within the network's reach
    (`networks.pixelcnn.GatedPixelCNN`), which by default is a whole grid of 7 × 7.

    Args:
        count: m, the length of a sequence: rows times columns.
        size: k, the number of codes.
        rows: of the grid; None: as many as columns.
        width: of the vectors that it reads.
        channels, layers, kernel: see `GatedPixelCNN`.

    Raises:
        UserError: that many codes make no such grid.
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
        """About the work of one pass: what the layers made of earlier codes is kept."""
        picked: list[Tensor] = []

        def draw(logits: Tensor) -> Tensor:
            picked.append(pick(logits[..., 0, 0]))
            return (self.code[picked[-1]] + self.place[len(picked) - 1])[..., None, None]

        self.net.sample(draw, n)
        return torch.stack(picked, -1)
