"""Discovery of families and data sets in their packages: adding one takes a new file and no registration."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from vaebench.configuration import own, parts
from vaebench.errors import UserError, unknown

DISCOVERED = {
    "family": ("families", "vaebench.core", "Family"),
    "data set": ("data", "vaebench.data.base", "ImageData"),
}


def names(kind: str) -> list[str]:
    """Sorted names of all families ('family') or data sets ('data set'), without importing any.

    Those of included files and plugins are among them.
    """
    return sorted({*_files(kind), *(part.listed for part in parts.own_parts() if part.kind == kind and part.choosable)})


@cache
def _files(kind: str) -> tuple[str, ...]:
    """Names of the suite's own, which are those of their files."""
    folder = Path(__file__).parents[1] / DISCOVERED[kind][0]
    helpers = {"base", "cache", "formats"}
    found = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return tuple(sorted(name for name in found if name[0] != "_" and name not in helpers))


def find_class(kind: str, name: str) -> type[Any]:
    """The class of a family or data set, by its module's name ('beta_vae', 'digits') or another of its names.

    Args:
        kind: 'family' or 'data set'.
        name: the name; or, of a class of the user's own, its name in an included file or plugin, or its path.

    Raises:
        UserError: there is no such module, or it does not define exactly one class of its kind, or cannot be imported.
    """
    part = parts.find_part(kind, name)
    path = part.path if part else name
    if own.is_path(path):
        if not issubclass(cls := own.require_class(path), base(kind)):
            raise UserError(f"'{path}' is no {kind}: expected a subclass of {base(kind).__name__}; name another")
        return cls
    return _suites_own(kind, parts.name_of(path) if part and name not in _files(kind) else name)


@cache
def _suites_own(kind: str, name: str) -> type[Any]:
    if name not in _files(kind):
        raise unknown(kind, name, names(kind))
    folder, parent = DISCOVERED[kind][0], base(kind)
    classes = _subclasses(importlib.import_module(f"vaebench.{folder}.{name}"), parent)
    if len(classes) != 1:
        raise UserError(
            f"vaebench/{folder}/{name}.py holds {len(classes)} subclasses of {parent.__name__} where exactly one was "
            "expected; move the others into files of their own"
        )
    return classes[0]


def protocols() -> list[str]:
    """Names of the protocols that vaebench ships, sorted."""
    return sorted(path.stem for path in (parts.PACKAGE / "evaluation" / "protocols").glob("*.yaml"))


@cache
def figures() -> dict[str, str]:
    """The measurement of each metric, by the metric's name, read without importing any.

    A name may end in a placeholder, '{end}', that the measurement fills: FID is measured in several spaces. Metrics of
    a helper module, '_refined', belong to the measurement that imports it.
    """
    folder = parts.PACKAGE / "evaluation" / "measurements"
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))}
    measurements: dict[str, str] = {}
    for name, tree in trees.items():
        users = (user for user, other in trees.items() if user[0] != "_" and name in _imported(other))
        owner = name if name[0] != "_" else next(users, None)
        if owner is not None:
            measurements |= dict.fromkeys(_kinds(tree), owner)
    return measurements


def _imported(tree: ast.Module) -> set[str]:
    """The last parts of the imported modules' names, and the imported names."""
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {(node.module or "").rpartition(".")[2] for node in froms} | {a.name for node in froms for a in node.names}


def _kinds(tree: ast.Module) -> Iterator[str]:
    """The keys of dictionaries whose values are built as `MetricKind(...)`."""
    for node in ast.walk(tree):
        for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
            kind = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "MetricKind"
            if kind and isinstance(key, ast.Constant):
                yield str(key.value)


def figure_names() -> list[str]:
    """Sorted names of all metrics, without the suffixes that measurements add to some."""
    return sorted({name.replace("{end}", "") for name in figures()})


@cache
def measurement_of(figure: str) -> str | None:
    """The measurement of a metric, by its name in a record: 'active_units_0.1' is one of `units`.

    Returns:
        None for an unknown metric.
    """
    patterns = {re.escape(name).replace(re.escape("{end}"), r"(_\w+)?"): name for name in figures()}
    fitting = [name for pattern, name in patterns.items() if re.fullmatch(rf"{pattern}(_[\w.]+)?", figure)]
    return figures()[max(fitting, key=len)] if fitting else None


def base(kind: str) -> type[Any]:
    """The base class of all families ('family') or data sets ('data set')."""
    _, module, name = DISCOVERED[kind]
    return getattr(importlib.import_module(module), name)


def _subclasses(module: ModuleType, parent: type) -> list[type[Any]]:
    members = inspect.getmembers(module, inspect.isclass)
    return [c for _, c in members if issubclass(c, parent) and c.__module__ == module.__name__]


def families() -> dict[str, type[Any]]:
    """Every family's class by name."""
    return {name: find_class("family", name) for name in names("family")}


def datasets() -> dict[str, type[Any]]:
    """Every data set's LightningDataModule class by name."""
    return {name: find_class("data set", name) for name in names("data set")}
