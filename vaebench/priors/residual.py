"""The prior of a top-down residual VAE, with a state that the likelihood reads."""

from __future__ import annotations

from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.hierarchy import Hierarchy, Walk
from vaebench.errors import UserError
from vaebench.measures import DataSpec, Shape
from vaebench.networks.residual import ResidualCell, SpectralConv, batched
from vaebench.posteriors.residual import Descent, ResidualEncoder
from vaebench.priors import Prior


@final
class ResidualDecoder(Prior):
    r"""p(z_i|z_{i+1} … z_L) = N(μ(h_i), diag σ(h_i)²), with a state h that is updated top-down by each level.

    .. math:: h_L = h_0, \qquad h_{i-1} = f_i(h_i + r(h_i) + W_i z_i), \text{ upsampled where the scale changes}

    The likelihood reads z only through the final state, at half the image's size.

    Reference:
        Child 2021, figure 3 (https://arxiv.org/abs/2011.10650); Vahdat & Kautz 2020 (https://arxiv.org/abs/2007.03898).

    Args:
        units, data: unused.
        posterior: a `ResidualEncoder`, which determines levels, scales and channels, and receives this prior.

    Raises:
        UserError: another kind of posterior.
    """

    def __init__(self, units: Shape, data: DataSpec, posterior: LazyDistribution) -> None:
        super().__init__()
        if not isinstance(posterior, ResidualEncoder):
            raise UserError(
                f"ResidualDecoder has the scales of a ResidualEncoder, and {type(posterior).__name__} has none; choose "
                "the family top_down_vae"
            )
        self.layout, self.levels, self.maps = posterior.layout, posterior.levels, posterior.maps
        channels, limit = posterior.channels, posterior.spectral
        self.seen = (channels, *self.layout.sizes[0])
        self.start = nn.ParameterList(torch.randn(channels, h, w) / 10 for h, w in self.layout.sizes)
        self.heads = nn.ModuleList(ResidualCell(channels, limit, 2 * self.maps + channels) for _ in self.levels)
        self.reads = nn.ModuleList(SpectralConv(self.maps, channels, 1, limit) for _ in self.levels)
        self.cells = nn.ModuleList(
            nn.Sequential(*(ResidualCell(channels, limit) for _ in range(posterior.count))) for _ in self.levels
        )
        posterior.meet(self)

    def descend(self) -> Descent:
        """Yields (p_i, h_i) given the levels above, highest level first, and receives z_i; returns the final state."""
        h, scale = self.start[-1], len(self.layout.sizes) - 1
        for level in range(len(self.levels) - 1, -1, -1):
            if (below := self.layout.levels[level]) != scale:
                scale, (height, width) = below, self.layout.sizes[below]
                h = batched(lambda maps: F.interpolate(maps, scale_factor=2.0, mode="nearest"), h)
                h = h[..., :height, :width] + self.start[scale]
            read = batched(self.heads[level], h)
            loc, log_scale = (part.flatten(-3) for part in read[..., : 2 * self.maps, :, :].chunk(2, -3))
            h = h + read[..., 2 * self.maps :, :, :]
            z = yield DiagonalNormal(loc, (5 * torch.tanh(log_scale / 5)).exp()), h
            h = h + batched(self.reads[level], z.unflatten(-1, (self.maps, *self.layout.sizes[scale])))
            h = batched(self.cells[level], h)
        return h

    def forward(self, c: Tensor | None = None) -> Hierarchy:
        def walk() -> Walk:
            descent = self.descend()
            p, _ = next(descent)
            for _ in self.levels[1:]:
                z = yield p
                p, _ = descent.send(z)
            yield p

        return Hierarchy(walk, self.levels, "down")

    def see(self, z: Tensor) -> Tensor:
        """The final state, (*batch, channels, h, w), for z (*batch, units)."""
        descent = self.descend()
        next(descent)
        for part in z.split(self.levels, -1)[::-1]:
            try:
                descent.send(part)
            except StopIteration as end:
                return cast(Tensor, end.value)
        raise RuntimeError("the descent has more levels than z")
