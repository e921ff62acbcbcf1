"""Lightning without its advertisements."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences Lightning's advertisements, and warnings from inside it that no caller can act on."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.* is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", r"(?s).*(JSONARGPARSE_DEPRECATION|deprecated in v4)", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
