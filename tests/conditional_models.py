"""A conditional model whose likelihood is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from helpers import SPEC
from torch import Tensor

from vaebench.core import DataSpec


@dataclass
class Labelled:
    """A data module with labelled test images."""

    x: Tensor
    y: Tensor | None
    spec: DataSpec = field(default_factory=lambda: SPEC)

    def images(self, split: str) -> Tensor:
        return self.x

    def labels(self, split: str) -> Tensor | None:
        return self.y
