"""Names and settings of engines, discovered by their files without starting one."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

ENGINES = Path(__file__).parents[1] / "engines"


def engines() -> list[str]:
    """Names of all engines."""
    return sorted(module.name for module in pkgutil.iter_modules([str(ENGINES)]) if module.name[0] != "_")


def engine_settings(name: str) -> dict[str, type]:
    """Settings of an engine that a sweep file may give, with their types."""
    return import_module(f"vaebench.sweep.engines.{name}").SETTINGS
