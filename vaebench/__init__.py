"""vaebench: a referee for variational autoencoders.

>>> import vaebench as vb
>>> model = vb.build("beta_vae", "digits", beta=2.0, latent=8)
>>> float(model.beta), model.data.shape
(2.0, (1, 8, 8))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vaebench._version import __version__

if TYPE_CHECKING:
    from vaebench.configuration.discovery import datasets, families
    from vaebench.configuration.registered import trust
    from vaebench.evaluation import Report, log_likelihood
    from vaebench.interface.commands import (
        bench,
        compare,
        evaluate,
        evaluate_checkpoint,
        fit,
        images,
        leaderboard,
        record,
    )
    from vaebench.interface.sweep import sweep
    from vaebench.records import read_records
    from vaebench.training.models import build, load

INTERFACE = ("bench", "compare", "evaluate", "evaluate_checkpoint", "fit", "images", "leaderboard", "record")

__all__ = [
    "Report",
    "__version__",
    "bench",
    "build",
    "compare",
    "datasets",
    "evaluate",
    "evaluate_checkpoint",
    "families",
    "fit",
    "images",
    "leaderboard",
    "load",
    "log_likelihood",
    "read_records",
    "record",
    "sweep",
    "trust",
]

_HOME = {
    **dict.fromkeys(INTERFACE, "vaebench.interface.commands"),
    "build": "vaebench.training.models",
    "load": "vaebench.training.models",
    "datasets": "vaebench.configuration.discovery",
    "Report": "vaebench.evaluation",
    "log_likelihood": "vaebench.evaluation",
    "read_records": "vaebench.records",
    "sweep": "vaebench.interface.sweep",
    "trust": "vaebench.configuration.registered",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: torch and Lightning take seconds, and `vaebench --help` needs neither."""
    if name == "families":
        return import_module("vaebench.families")
    if name not in _HOME:
        raise AttributeError(f"module 'vaebench' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
