"""Hierarchies: several levels of latents in one event, each drawn given the levels before it.

A hierarchy is written as a generator, which reads like its equation: it yields the distribution of a level and receives
the value of the level, sampled or given. The two passes of a ladder, which share computations, yield pairs (q_i, p_i).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from vaebench.distributions import DiagonalNormal, SampleShape, divergence

Order = Literal["up", "down"]
Walk = Generator[Distribution, Tensor, Any]
Pairs = Generator[tuple[Distribution, Distribution], Tensor, Any]
Yielded = TypeVar("Yielded")


class Hierarchy(Distribution):
    r"""The levels z = (z_1, …, z_L), concatenated into one event (n_1 + … + n_L,); z_1 is the lowest.

    .. math:: \text{up: } \prod_i p(z_i | z_1 … z_{i-1}), \qquad \text{down: } \prod_i p(z_i | z_{i+1} … z_L)

    ::

        def walk():
            z2 = yield DiagonalNormal(loc, scale)   # p(z2), (*batch, n_2)
            yield DiagonalNormal(*net(z2))          # p(z1|z2), for z2 (*sample, *batch, n_2)

        Hierarchy(walk, (n_1, n_2), "down")

    Args:
        walk: starts the generator.
        sizes: n_1 … n_L, units of every level.
        order: in which the levels are drawn: 'up' from z_1, or 'down' from z_L.
        batch: batch shape.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, walk: Callable[[], Walk], sizes: Sequence[int], order: Order, batch: SampleShape = ()) -> None:
        self.walk, self.sizes, self.order = walk, tuple(sizes), order
        super().__init__(torch.Size(batch), torch.Size((sum(sizes),)), validate_args=False)

    def rsample(self, sample_shape: SampleShape = ()) -> Tensor:
        def draw(distribution: Distribution, level: int) -> Tensor:
            return distribution.rsample(sample_shape if level == self._first else ())

        return torch.cat(advance(self.walk(), draw, len(self.sizes), self.order), -1)

    def rsample_and_log_prob(self, sample_shape: SampleShape = ()) -> tuple[Tensor, Tensor]:
        """Samples and their log-density, in one pass: (*sample, *batch, units) and (*sample, *batch)."""
        z, levels = self.rsample_and_log_prob_levels(sample_shape)
        return z, levels.sum(-1)

    def rsample_and_log_prob_levels(self, sample_shape: SampleShape = ()) -> tuple[Tensor, Tensor]:
        """Samples and the log-density of each of their levels, as `log_prob_levels`, in one pass."""
        scores: list[Tensor] = []

        def draw(distribution: Distribution, level: int) -> Tensor:
            z = distribution.rsample(sample_shape if level == self._first else ())
            scores.append(distribution.log_prob(z))
            return z

        z = torch.cat(advance(self.walk(), draw, len(self.sizes), self.order), -1)
        return z, stacked(scores, self.order)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_levels(value).sum(-1)

    def log_prob_levels(self, value: Tensor) -> Tensor:
        """log p(z_i | the levels drawn before it), nats: (*, units) -> (*, L), the lowest level first."""
        given, scores = value.split(self.sizes, -1), list[Tensor]()

        def score(distribution: Distribution, level: int) -> Tensor:
            scores.append(distribution.log_prob(given[level]))
            return given[level]

        advance(self.walk(), score, len(self.sizes), self.order)
        return stacked(scores, self.order)

    @property
    def _first(self) -> int:
        return 0 if self.order == "up" else len(self.sizes) - 1


class Pass(NamedTuple):
    """One pass down both hierarchies, with z ~ q.

    Attributes:
        z: (*sample, *batch, units).
        log_q, log_p: of every level given those above it, nats, (*sample, *batch, L), the lowest first.
        rates: KL(q_i‖p_i) given the levels above, in closed form where there is one, the same.
        end: the return value of the generator.
    """

    z: Tensor
    log_q: Tensor
    log_p: Tensor
    rates: Tensor
    end: Any


def descend(pairs: Pairs, levels: int, sample_shape: SampleShape = ()) -> Pass:
    """Draws the levels from the top down, and scores each under q and p in the same pass.

    Args:
        pairs: yields (q_i, p_i) given the levels above, the highest first, and receives z_i.
        levels: L.
        sample_shape: of the samples.
    """
    log_q, log_p, rates = list[Tensor](), list[Tensor](), list[Tensor]()

    def draw(pair: tuple[Distribution, Distribution], level: int) -> Tensor:
        q, p = pair
        sample = torch.Size(sample_shape if level == levels - 1 else ())
        z = q.rsample(sample)
        log_q.append(q.log_prob(z))
        log_p.append(p.log_prob(z))
        rates.append(divergence(q, p, z if sample else z[None]).expand_as(log_q[-1]))
        return z

    values = advance(pairs, draw, levels, "down")
    ours, theirs, both = (stacked(parts, "down") for parts in (log_q, log_p, rates))
    return Pass(torch.cat(values, -1), ours, theirs, both, _end(pairs, values[0]))


def _end(walk: Pairs, last: Tensor) -> Any:
    try:
        walk.send(last)
    except StopIteration as end:
        return end.value
    raise RuntimeError("the generator of the hierarchy yields more levels than it has sizes")


def paired(q: Hierarchy, p: Hierarchy) -> Pairs:
    """Two top-down hierarchies as one generator for `descend`."""
    ours, theirs = q.walk(), p.walk()
    pair = next(ours), next(theirs)
    for _ in q.sizes[1:]:
        z = yield pair
        pair = ours.send(z), theirs.send(z)
    yield pair


def advance(
    walk: Generator[Yielded, Tensor, Any], take: Callable[[Yielded, int], Tensor], levels: int, order: Order
) -> list[Tensor]:
    """Runs the generator of a hierarchy, where `take` maps what it yields for a level to the level's value.

    Returns:
        The values by level, the lowest first.
    """
    values: list[Tensor] = []
    numbers = range(levels) if order == "up" else range(levels - 1, -1, -1)
    for level in numbers:
        values.append(take(walk.send(values[-1]) if values else next(walk), level))
    return values if order == "up" else values[::-1]


def stacked(parts: Sequence[Tensor], order: Order) -> Tensor:
    """Stacks values of each level, in the order of drawing, into one tensor (*, L), the lowest first."""
    return torch.stack(torch.broadcast_tensors(*(parts if order == "up" else parts[::-1])), -1)


def join(*parts: Tensor) -> Tensor:
    """Concatenates vectors (*, n_i) of batch shapes that broadcast: (*, n_1 + n_2 + …)."""
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)


def gaussian(parameters: Tensor) -> Independent:
    """N(μ, diag σ²) whose μ and log σ are the halves of a network's output (*, 2n)."""
    loc, log_scale = parameters.chunk(2, -1)
    return DiagonalNormal(loc, log_scale.exp())


def gaussian_product(a: Independent, b: Independent) -> Independent:
    r"""The normalised product of two diagonal Gaussians, each weighed by its precision.

    .. math:: \sigma^{-2} = \sigma_a^{-2} + \sigma_b^{-2}, \qquad
              \mu = \sigma^2 (\mu_a \sigma_a^{-2} + \mu_b \sigma_b^{-2})

    Sønderby et al. 2016, equations 17 to 19 (https://arxiv.org/abs/1602.02282).
    """
    one, other = a.base_dist, b.base_dist
    ours, theirs = one.scale**-2, other.scale**-2
    variance = 1 / (ours + theirs)
    return DiagonalNormal(variance * (one.loc * ours + other.loc * theirs), variance.sqrt())


def named_levels(what: str, levels: Tensor) -> dict[str, Tensor]:
    """Means of values of every level (*, L), by name: `rate_1` is the lowest level's."""
    return {f"{what}_{i}": value for i, value in enumerate(levels.flatten(0, -2).mean(0).unbind(), 1)}
