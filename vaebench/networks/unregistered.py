"""References to modules that are owned by another module."""

from __future__ import annotations

from typing import Generic, TypeVar

Held = TypeVar("Held")


class Shared(Generic[Held]):
    """A reference to a module of another owner, not registered, so that its parameters are listed once.

    >>> from torch import nn
    >>> encoder, prior = nn.Linear(2, 2), nn.Module()
    >>> prior.posterior = Shared(encoder)
    >>> len(list(prior.parameters())), prior.posterior.module is encoder
    (0, True)
    """

    def __init__(self, module: Held) -> None:
        self.module = module

    def __repr__(self) -> str:
        return f"Shared({type(self.module).__name__})"  # the same for all members of a population
