"""Priors over codes, which share the posterior's codebook."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from zuko.lazy import LazyDistribution

from vaebench.distributions import DiagonalNormal
from vaebench.distributions.codes import Categorical, Sequential, UnitsAndCodes
from vaebench.errors import UserError
from vaebench.measures import DataSpec, Shape
from vaebench.networks.codes import Causal, CodeNetwork
from vaebench.posteriors.codes import Codes, NormalAndOneHots
from vaebench.priors import Prior, Shared


class CodePrior(Prior):
    """p(z) over the codes of a posterior.

    Args:
        latent, data: unused.
        posterior: with the codebook and the number of positions.

    Raises:
        UserError: the posterior has no codes.
    """

    discrete = True

    def __init__(self, latent: Shape, data: DataSpec | None, posterior: LazyDistribution) -> None:
        super().__init__()
        if not isinstance(posterior, Codes):
            raise UserError(
                f"{type(self).__name__} is a prior over codes, and {type(posterior).__name__} gives none; set "
                "model.posterior to one of vaebench.posteriors.codes"
            )
        self._posterior = Shared(posterior)
        self.depth, self.size, width = posterior.book.shape
        self.places, self.count = posterior.places, posterior.places * self.depth
        self.seen = (self.places * width,)

    @property
    def book(self) -> Tensor:
        return self._posterior.module.book

    def see(self, z: Tensor) -> Tensor:
        """The likelihood's view of z (*, n l d): the sum over the levels at each position, (*, n d)."""
        return z.unflatten(-1, (self.places, self.depth, -1)).sum(-2).flatten(-2)


class FactorisedCodes(CodePrior):
    """p(z) = Π_i p(z_i): independent codes with frequencies per position, initially uniform.

    The first prior of van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) is uniform.

    Args:
        latent, data, posterior: see `CodePrior`.
        learned: whether the frequencies are learned.
    """

    logits: Tensor

    def __init__(self, latent: Shape, data: DataSpec | None, posterior: LazyDistribution, learned: bool = True) -> None:
        super().__init__(latent, data, posterior)
        logits = torch.zeros(self.count, self.size)
        if learned:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits)

    def forward(self, c: Tensor | None = None) -> Categorical:
        return Categorical(self.logits, self.book, self.places)


class UniformCodes(FactorisedCodes):
    """p(z) = k^−m: all codes are equally likely (van den Oord et al. 2017, https://arxiv.org/abs/1711.00937).

    Args:
        latent, data, posterior: see `CodePrior`.
    """

    def __init__(self, latent: Shape, data: DataSpec | None, posterior: LazyDistribution) -> None:
        super().__init__(latent, data, posterior, learned=False)


class AutoregressiveCodes(CodePrior):
    """p(z) = Π_i p(z_i | z_1, …, z_{i−1}), by a causal network over positions and levels.

    van den Oord et al. 2017 (https://arxiv.org/abs/1711.00937) fit a PixelCNN to the codes, as
    `networks.codes.CausalGrid`, which samples at about the cost of one pass. The default, a transformer
    (`networks.codes.Causal`), needs no grid of positions and samples with one pass per code.

    Args:
        latent, data, posterior: see `CodePrior`.
        net: builds the network from m and k.
    """

    def __init__(
        self,
        latent: Shape,
        data: DataSpec | None,
        posterior: LazyDistribution,
        net: Callable[[int, int], CodeNetwork] = Causal,
    ) -> None:
        super().__init__(latent, data, posterior)
        self.net = net(self.count, self.size)

    def forward(self, c: Tensor | None = None) -> Sequential:
        return Sequential(self.net, self.book, self.places)


class NormalAndUniformCodes(Prior):
    """p(z) = N(0, I) for the units and k^−m for the codes of `posteriors.codes.NormalAndOneHots`.

    Dupont 2018 (https://arxiv.org/abs/1804.00104).

    Args:
        latent, data: unused.
        posterior: with the numbers of units and positions.

    Raises:
        UserError: another kind of posterior.
    """

    discrete = True
    loc: Tensor
    logits: Tensor
    one_hots: Tensor

    def __init__(self, latent: Shape, data: DataSpec | None, posterior: LazyDistribution) -> None:
        super().__init__()
        if not isinstance(posterior, NormalAndOneHots):
            raise UserError(
                f"NormalAndUniformCodes is a prior over units and codes, and {type(posterior).__name__} does not give "
                "both; set model.posterior to vaebench.posteriors.codes.NormalAndOneHots"
            )
        self.places, size = posterior.places, posterior.book.shape[1]
        self.register_buffer("loc", torch.zeros(posterior.units))
        self.register_buffer("logits", torch.zeros(self.places, size))
        self.register_buffer("one_hots", posterior.book.clone())

    def forward(self, c: Tensor | None = None) -> Distribution:
        units = DiagonalNormal(self.loc, torch.ones_like(self.loc))
        return UnitsAndCodes(units, Categorical(self.logits, self.one_hots, self.places))
