"""Posteriors of several levels: q(z_1 … z_L|x) as a `Hierarchy`, sampled bottom-up or top-down.

`latent` is the total number of units; `upper` lists the units of the levels above the first. A top-down posterior
receives the prior (`meet`), so that one pass evaluates both (`pairs`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import prod
from typing import ClassVar, Protocol, cast, final, runtime_checkable

from torch import Tensor, nn
from torch.distributions import Independent
from zuko.lazy import LazyDistribution

from vaebench.distributions.hierarchy import (
    Hierarchy,
    Pairs,
    Pass,
    Walk,
    descend,
    gaussian,
    gaussian_product,
    join,
    paired,
)
from vaebench.errors import UserError
from vaebench.measures import Shape
from vaebench.networks import MLP, Network
from vaebench.networks.unregistered import Shared
from vaebench.posteriors import Posterior

Net = Callable[[Shape, Shape], Network]


def level_sizes(latent: Shape, upper: Sequence[int] | None) -> tuple[int, ...]:
    """Units of every level, n_1 … n_L.

    Args:
        latent: shape of the whole latent, (n_1 + … + n_L,).
        upper: n_2 … n_L; None for two levels with a third of the units in the second, as Burda et al.'s 100 and 50.

    Raises:
        UserError: no units remain for the first level, or another level has none.
    """
    total = prod(latent)
    above = (max(1, total // 3),) if upper is None else tuple(upper)
    if total - sum(above) < 1 or min(above, default=1) < 1:
        raise UserError(
            f"{total} latent units cannot be shared among a first level and levels of {list(above)} units above it: "
            "expected at least one for each; raise model.latent or lower posterior.upper"
        )
    return total - sum(above), *above


@runtime_checkable
class Topped(Protocol):
    """A hierarchical posterior with a closed-form highest level."""

    def top(self, x: Tensor) -> Independent:
        """q(z_L|x) for images x (b, *data), without the prior, which may depend on it."""


@final
class BottomUp(Posterior):
    r"""q(z|x) = q(z_1|x) \prod_i q(z_{i+1}|z_i), each level a diagonal Gaussian given the one below.

    Burda et al. 2016 (https://arxiv.org/abs/1509.00519), section 5 and appendix C.

    Args:
        data: shape of an image.
        latent: shape of the whole latent, (n_1 + … + n_L,).
        upper: n_2 … n_L; see `level_sizes`.
        net: builds the network from images to the first level.
        inner: builds the networks between levels.
    """

    def __init__(
        self, data: Shape, latent: Shape, upper: Sequence[int] | None = None, net: Net = MLP, inner: Net = MLP
    ) -> None:
        super().__init__()
        self.levels = level_sizes(latent, upper)
        below = [inner((a,), (2 * b,)) for a, b in zip(self.levels[:-1], self.levels[1:], strict=True)]
        self.nets = nn.ModuleList([net(data, (2 * self.levels[0],)), *below])

    def forward(self, c: Tensor | None = None) -> Hierarchy:
        x = cast(Tensor, c)

        def walk() -> Walk:
            z = x
            for net in self.nets:
                z = yield gaussian(net(z))

        return Hierarchy(walk, self.levels, "up", x.shape[:1])


class Descending(Posterior):
    """A posterior that is sampled top-down together with its prior."""

    _prior: Shared[LazyDistribution] | None = None

    def meet(self, prior: LazyDistribution) -> None:
        """Sets the prior; called by the prior's constructor."""
        self._prior = Shared(prior)

    @property
    def paired(self) -> bool:
        """Whether the prior is set."""
        return self._prior is not None

    def prior(self) -> Hierarchy:
        """The prior that shares the top-down pass."""
        return cast(Hierarchy, cast(Shared[LazyDistribution], self._prior).module())

    @abstractmethod
    def pairs(self, x: Tensor) -> Pairs:
        """Yields (q_i, p_i) given the levels above, highest level first, and receives z_i by `send`."""

    def descend(self, x: Tensor, k: int = 1) -> Pass:
        """One pass of posterior and prior, with k samples per image: z (k, b, units)."""
        return descend(self.pairs(x), len(self.levels), (k,))


class Correcting(Descending):
    """A posterior that corrects its prior's distribution of each level, and so requires the prior.

    Attributes:
        beside: class path of a compatible prior.
    """

    beside: ClassVar[str] = "vaebench.priors.hierarchy.TopDown"

    def forward(self, c: Tensor | None = None) -> Hierarchy:
        x = cast(Tensor, c)

        def walk() -> Walk:
            pairs = self.pairs(x)
            q, _ = next(pairs)
            for _ in self.levels[1:]:
                z = yield q
                q, _ = pairs.send(z)
            yield q

        return Hierarchy(walk, self.levels, "down", x.shape[:1])


@final
class TopDown(Descending):
    r"""q(z|x) = q(z_L|x) \prod_i q(z_i|z_{i+1} … z_L, x), each level a diagonal Gaussian given x and the levels above.

    The features of x are shared by all levels.

    Reference:
        Tomczak & Welling 2018, section 4 (https://arxiv.org/abs/1705.07120).

    Args:
        data: shape of an image.
        latent: shape of the whole latent, (n_1 + … + n_L,).
        upper: n_2 … n_L; see `level_sizes`.
        features: number of image features.
        net: builds the network from images to features.
        inner: builds the networks from features and levels to a level.
    """

    def __init__(
        self,
        data: Shape,
        latent: Shape,
        upper: Sequence[int] | None = None,
        features: int = 200,
        net: Net = MLP,
        inner: Net = MLP,
    ) -> None:
        super().__init__()
        self.levels = level_sizes(latent, upper)
        self.net = net(data, (features,))
        self.inner = nn.ModuleList(
            inner((features + sum(self.levels[i + 1 :]),), (2 * size,)) for i, size in enumerate(self.levels)
        )

    def forward(self, c: Tensor | None = None) -> Hierarchy:
        x = cast(Tensor, c)

        def walk() -> Walk:
            seen = self.net(x)
            for inner in list(self.inner)[::-1]:
                z = yield gaussian(inner(seen))
                seen = join(seen, z)

        return Hierarchy(walk, self.levels, "down", x.shape[:1])

    def pairs(self, x: Tensor) -> Pairs:
        return paired(self(x), self.prior())

    def top(self, x: Tensor) -> Independent:
        """q(z_L|x) for images x (b, *data), without the prior, which may depend on it."""
        return cast(Independent, next(self(x).walk()))


@final
class Ladder(Correcting):
    r"""q(z_i|z_{i+1}, x) ∝ p(z_i|z_{i+1}) N(z_i; μ_i(x), σ_i²(x)): the prior, corrected by the image.

    The highest level is N(μ_L(x), σ_L²(x)). Without batch normalisation, and with σ as an exponential.

    Reference:
        Sønderby et al. 2016 (https://arxiv.org/abs/1602.02282).

    Args:
        data: shape of an image.
        latent: shape of the whole latent, (n_1 + … + n_L,).
        upper: n_2 … n_L; see `level_sizes`.
        features: units of every deterministic bottom-up layer d_i.
        net: builds the network from images to d_1.
        inner: builds the networks from d_i to d_{i+1}, and from d_i to μ_i and σ_i.
    """

    def __init__(
        self,
        data: Shape,
        latent: Shape,
        upper: Sequence[int] | None = None,
        features: int = 200,
        net: Net = MLP,
        inner: Net = MLP,
    ) -> None:
        super().__init__()
        self.levels = level_sizes(latent, upper)
        self.net = net(data, (features,))
        self.rise = nn.ModuleList(inner((features,), (features,)) for _ in self.levels[1:])
        self.heads = nn.ModuleList(inner((features,), (2 * size,)) for size in self.levels)

    def read(self, x: Tensor) -> list[Independent]:
        """N(μ_i(x), σ_i²(x)) of every level, bottom-up."""
        features = [self.net(x)]
        for rise in self.rise:
            features.append(rise(features[-1]))
        return [gaussian(head(d)) for head, d in zip(self.heads, features, strict=True)]

    def top(self, x: Tensor) -> Independent:
        """q(z_L|x) for images x (b, *data), without the prior, which may depend on it."""
        return self.read(x)[-1]

    def pairs(self, x: Tensor) -> Pairs:
        read = self.read(x)
        descent = self.prior().walk()
        p = next(descent)
        z = yield read[-1], p
        for own in read[-2::-1]:
            p = descent.send(z)
            z = yield gaussian_product(own, cast(Independent, p)), p
