"""A stand-in for a data module with training images, labels and factors, and encoders that are known functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from oracles import Parts
from torch import Tensor
from torch.distributions import Distribution

from vaebench.core import DataSpec
from vaebench.distributions import Bernoulli, Delta, DiagonalNormal


@dataclass
class Splits:
    """Images, labels and factors by split; None where there are none."""

    x: dict[str, Tensor]
    y: dict[str, Tensor] | None = None
    v: dict[str, Tensor] | None = None
    measure: str = "continuous"
    spec: DataSpec = field(init=False)

    def __post_init__(self) -> None:
        self.spec = DataSpec(tuple(self.x["test"].shape[1:]), self.measure)

    def images(self, split: str) -> Tensor:
        return self.x[split]

    def first(self, split: str, count: int) -> Tensor:
        return self.x[split][:count]

    def labels(self, split: str) -> Tensor | None:
        return None if self.y is None else self.y[split]

    def factors(self, split: str) -> Tensor | None:
        return None if self.v is None else self.v[split]


def encoder(mean: Callable[[Tensor], Tensor], units: int, scale: float = 0.1) -> Parts:
    """q(z|x) = N(mean(pixels), scale² I), all on one point where scale is 0, p(z) = N(0, I), and an idle decoder."""

    def posterior(x: Tensor) -> Distribution:
        loc = mean(x.flatten(1).double())
        return DiagonalNormal(loc, torch.full_like(loc, scale)) if scale else Delta(loc)

    zeros = torch.zeros(units, dtype=torch.float64)
    return Parts(posterior, lambda: DiagonalNormal(zeros, zeros + 1), lambda z: Bernoulli(z))
