"""A module that two others need and one of them owns."""

from __future__ import annotations

from typing import Generic, TypeVar

Held = TypeVar("Held")


class Shared(Generic[Held]):
    """A module that belongs to another one: held, but not registered, so that its parameters stand once.

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
