"""One paper, one final class, one file. `vaebench.families()` lists them: the package itself is callable."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """Importing any family binds `vaebench.families` to this package, so a function of that name would not survive."""

    def __call__(self) -> dict[str, type[Any]]:
        """Every family's class by name."""
        from vaebench.configuration.discovery import families

        return families()


sys.modules[__name__].__class__ = _Package
