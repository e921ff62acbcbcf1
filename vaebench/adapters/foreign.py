"""A model from elsewhere, with what its record says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Foreign:
    """A model from elsewhere.

    Attributes:
        model: anything with the three parts.
        adapter: what made it: 'pythae', 'multivae', 'diffusers', 'module' or 'python'.
        kind: its class or the function that built it, 'pythae.VAE'.
        settings: what its record keeps of it besides, as JSON can hold it; no place of a file.
        sources: the texts of the modules of the user's own that built it, by name.
    """

    model: Any
    adapter: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A name for its row on a leaderboard: that of its class, or of the module that built it."""
        return self.kind.partition(".")[0] if self.kind.endswith(".build") else self.kind

    @property
    def config(self) -> dict[str, Any]:
        """What its record says of it under `model`."""
        return {"adapter": self.adapter, "class_path": self.kind, "init_args": dict(self.settings)}
