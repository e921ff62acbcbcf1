"""Packages that are functions of the Python interface too: `vb.families()`, `vb.leaderboard(…)`, `vb.sweep(…)`.

Importing any module of such a package binds its name in `vaebench` to the package, where a function of that name would
not survive.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def callable_package(package: str, module: str) -> None:
    """Makes a package callable as the function of its name in a module, which is imported at the first call."""
    name = package.rpartition(".")[2]

    class Package(ModuleType):
        def __call__(self, *args: Any, **settings: Any) -> Any:
            return vars(import_module(module))[name](*args, **settings)

    sys.modules[package].__class__ = Package
