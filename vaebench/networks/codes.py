"""A causal network over a sequence of codes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.errors import UserError
from vaebench.networks import Linear


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


class Causal(nn.Module):
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
        self.start = nn.Parameter(torch.randn(width))
        self.code = nn.Parameter(torch.randn(size, width))
        self.place = nn.Parameter(torch.randn(count, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.last, self.head = nn.LayerNorm(width), Linear(width, size)

    def forward(self, indices: Tensor) -> Tensor:
        """Numbers (*batch, m) to logits (*batch, m, k); those at i do not depend on numbers from i on."""
        batch, m = indices.shape[:-1], indices.shape[-1]
        seen = self.code[indices.reshape(-1, m)[:, :-1]]
        h = torch.cat([self.start.expand(len(seen), 1, -1), seen], 1) + self.place
        for block in self.blocks:
            h = block(h)
        return self.head(self.last(h).flatten(0, 1)).reshape(*batch, m, -1)
