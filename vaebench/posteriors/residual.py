"""The posterior of a top-down residual VAE: bottom-up feature maps, and top-down corrections of the prior."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, cast, final, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.hierarchy import Pairs
from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks.residual import FeaturePyramid, ResidualCell, batched, scale_layout
from vaebench.networks.unregistered import Shared
from vaebench.posteriors.hierarchy import Correcting

Descent = Generator[tuple[Independent, Tensor], Tensor, Tensor]


@runtime_checkable
class Stateful(Protocol):
    """A prior with a state that is updated by every level."""

    def descend(self) -> Descent:
        """Yields (p_i, h_i) given the levels above, highest level first, and receives z_i; returns the final state."""


@final
class ResidualEncoder(Correcting):
    r"""q(z_i|z_{i+1} … z_L, x) = N(μ_p + Δμ, diag (σ_p e^{Δ\log σ})²), relative to the prior.

    Δμ and Δ log σ are read from the prior's state h_i and the image's feature map of the same scale.

    Reference:
        Vahdat & Kautz 2020 (https://arxiv.org/abs/2007.03898), section 3.2.

    Args:
        data: shape of an image, (c, h, w).
        maps: channels of every level's latent map, (n,).
        groups: levels at each scale: at half the image's size, a quarter, …
        channels: of all feature maps.
        cells: residual cells per scale, bottom-up and top-down.
        spectral: largest norm of a convolution; see `networks.residual.SpectralConv`. 0 for no limit.

    Raises:
        UserError: a scale without a level, or no scale.
    """

    beside = "vaebench.priors.residual.ResidualDecoder"

    def __init__(
        self,
        data: Shape,
        maps: Shape,
        groups: tuple[int, ...] = (2, 1),
        channels: int = 16,
        cells: int = 1,
        spectral: float = 0.0,
    ) -> None:
        super().__init__()
        if min(groups, default=0) < 1:
            raise UserError(
                f"ResidualEncoder has groups {list(groups)}: expected one level or more at each of one scale or more; "
                "set posterior.groups"
            )
        self.layout, self.channels, self.count, self.spectral = (
            scale_layout(data, tuple(groups)),
            channels,
            cells,
            spectral,
        )
        self.maps = maps[0]
        self.levels = tuple(self.maps * h * w for h, w in (self.layout.sizes[s] for s in self.layout.levels))
        self.event = (sum(self.levels),)
        self.register_buffer("sizes", torch.tensor(self.levels), persistent=False)
        self.up = FeaturePyramid(data, self.layout, channels, cells, spectral)
        self.heads = nn.ModuleList(ResidualCell(2 * channels, spectral, 2 * self.maps) for _ in self.levels)

    def meet(self, prior: LazyDistribution) -> None:
        """Sets the prior, a `ResidualDecoder`; called by the prior's constructor."""
        if isinstance(prior, Stateful):
            self._prior = Shared(prior)

    def pairs(self, x: Tensor) -> Pairs:
        """Yields (q_i, p_i) given the levels above, highest level first, and receives z_i; returns the final state."""
        features, descent = self.up(x), cast(Stateful, cast(Shared[LazyDistribution], self._prior).module).descend()
        p, h = next(descent)
        for level in range(len(self.levels) - 1, -1, -1):
            z = yield self._corrected(p, h, features[self.layout.levels[level]], level), p
            try:
                p, h = descent.send(z)
            except StopIteration as end:
                return end.value

    def _corrected(self, p: Independent, h: Tensor, features: Tensor, level: int) -> Independent:
        batch = torch.broadcast_shapes(h.shape[:-3], features.shape[:-3])
        both = torch.cat([part.expand(*batch, *part.shape[-3:]) for part in (h, features)], -3)
        return relative(p, batched(self.heads[level], both))


def relative(p: Independent, change: Tensor) -> Independent:
    """N(μ_p + Δμ, diag (σ_p e^{Δ log σ})²) for (Δμ, Δ log σ) as maps (*batch, 2n, h, w), bounded by 5 as in NVAE."""
    shift, log_factor = (5 * torch.tanh(part / 5) for part in change.flatten(-3).chunk(2, -1))
    return DiagonalNormal(p.base_dist.loc + shift, p.base_dist.scale * log_factor.exp())
