"""Types of the fields of records, for checks on records that other programs wrote.

A type is `str`, `bool`, `int`, `float` (any finite number), `None`, or a composite:

    (str, None)         a union
    [float]             a list
    {"step": [float]}   a table with that key; "step?" is optional, `...` stands for all other keys
    JSON                any value

All texts and keys must be printable: no terminal escape sequences, line breaks or bidirectional control characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from vaebench.errors import printable

JSON = object()
LARGEST = 1e100  # of numbers, whose squares can still be summed
LONGEST = 60  # letters of a key in a message
DEEPEST = 40  # nesting of tables and lists
NAMES = {dict: "a table", list: "a list", str: "a text", bool: "true or false", int: "a whole number",
         float: "a number", type(None): "nothing"}  # fmt: skip

FieldKind = Any  # a type as described above

_PART = {"class_path?": str, "init_args?": {...: JSON}, ...: JSON}
METRIC: FieldKind = {
    "value": (float, None),
    "se": (float, None),
    "unit": (str, None),
    "n": (int, None),
    "definition": (str, None),
    "higher_is_better": (bool, None),
    "unavailable": (str, None),
    "version?": int,
    ...: JSON,
}
MACHINE: FieldKind = {
    "processor?": str, "device?": str, "cores?": int, "threads?": int, "load_start?": float, "load_highest?": float,
    "load_end?": float,
}  # fmt: skip
RECORD: FieldKind = {
    "id": str,
    "family": str,
    "variant": str,
    "benchmark": (str, None),
    "seed": int,
    "config": {"model?": _PART, "data?": _PART, "trainer?": {...: JSON}, "engine?": {...: JSON}, ...: JSON},
    "sources?": {...: str},
    "data": {"name": str, "measure": str, "shape": [int], "sizes?": {...: int}, "hashes": {...: str}, ...: JSON},
    "surrogate": bool,
    "started_at_mean": bool,
    "selection": str,
    "protocol": {
        "k": int, "n": int, "version": int, "name?": (str, None), "seed?": (int, None), "limit?": (int, None),
        "split?": str, "measurements?": {...: {...: JSON}}, ...: JSON,
    },
    "metrics": {...: METRIC},
    "units": {...: [float]},
    "collapse": {"verdict?": str, "sentence?": str, "units?": ([int], None), ...: JSON},
    "tables": {"proposal?": {"asked?": str, "used?": str, "reason?": str, ...: JSON}, ...: JSON},
    "warnings": [str],
    "curves": {...: {"step": [float], "value": [float], ...: JSON}},
    "cost": {
        "parameters?": float, "device?": str, "threads?": int, "trial?": (int, None), "step_images?": int,
        "step_flops?": float, "evaluation_flops?": float, "step_flops_unavailable?": str,
        "evaluation_flops_unavailable?": str, "uncounted?": [str], "flops_per_image?": float, ...: JSON,
    },
    "times": {
        "started?": str, "train_seconds?": float, "images_per_second?": float, "evaluate_seconds?": float,
        **MACHINE, ...: JSON,
    },
    "environment": {"commit?": (str, None), "dirty?": (bool, None), ...: (str, float, bool, None)},
    "checkpoint": ({"file?": str, "weights?": (str, None), ...: JSON}, None),
    "files": {"per_image.npz": str, ...: str},
    "digest": str,
    "schema": int,
}  # fmt: skip

CHECKPOINT: FieldKind = {
    **{name: RECORD[name] for name in ("config", "seed", "data", "started_at_mean", "selection", "curves")},
    "started": str, "train_seconds": float, "images_per_second": float, "warnings?": [str],
    "sources?": {...: str},
    "machine?": {**MACHINE, ...: JSON}, ...: JSON,
}  # fmt: skip
"""The fields of a checkpoint about its run, which become part of its record."""


def fault(value: Any, kind: FieldKind, where: str = "") -> str | None:
    """Why a value does not have a type; None where it does.

    Args:
        value: from JSON.
        kind: the type.
        where: dotted key of the value.

    >>> fault({"step": [1], "value": [None]}, {"step": [float], "value": [float]})
    'has nothing at value.0, where a number is expected'
    """
    if kind is JSON:
        return _deep(value, where)
    if isinstance(kind, tuple):
        if value is None and None in kind:
            return None
        faults = [fault(value, one, where) for one in kind if one is not None]
        return None if None in faults else _closest(faults)
    if isinstance(kind, dict):
        return _table(value, kind, where) if isinstance(value, dict) else _other(value, dict, where)
    if isinstance(kind, list):
        if not isinstance(value, list):
            return _other(value, list, where)
        if kind[0] is float and all(type(v) in (int, float) and -LARGEST <= v <= LARGEST for v in value):
            return None  # a curve: three quarters of a record's values, which need no names
        return next(filter(None, (fault(v, kind[0], _below(where, i)) for i, v in enumerate(value))), None)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        return _other(value, kind, where)
    if isinstance(value, str) and not value.isprintable():
        return f"has a text that cannot be printed at {where}"
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        return f"has a number beyond {LARGEST:g} at {where}"
    return None


def uneven(curves: Mapping[str, Any]) -> str | None:
    """The error for a curve with unequal numbers of steps and values; None without one."""
    odd = [name for name, curve in curves.items() if len(curve["step"]) != len(curve["value"])]
    return f"has other numbers of steps than of values at curves.{odd[0]}" if odd else None


def _table(value: Mapping[str, Any], kind: Mapping[str | EllipsisType, FieldKind], where: str) -> str | None:
    if wrong := _keys(value, where):
        return wrong
    names = {name.removesuffix("?"): name for name in kind if isinstance(name, str)}
    if lacking := sorted(_below(where, name) for name in names.keys() - value.keys() if names[name] == name):
        return f"lacks {', '.join(lacking)}"
    if ... not in kind and (unknown := sorted(_below(where, name) for name in value.keys() - names.keys())):
        return f"does not know {', '.join(unknown)}"
    inside = (fault(v, kind[names.get(name, ...)], _below(where, name)) for name, v in value.items())
    return next(filter(None, inside), None)


def _deep(value: Any, where: str, depth: int = 0) -> str | None:
    """The error for a JSON value with too deep nesting or too large numbers; None without one."""
    if depth > DEEPEST:
        return f"is nested more than {DEEPEST} deep at {where}"
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        inside = next(filter(None, (_deep(v, _below(where, k), depth + 1) for k, v in items)), None)
        return inside or (_keys(value, where) if isinstance(value, dict) else None)
    if value is None or isinstance(value, bool):
        return None
    return fault(value, str if isinstance(value, str) else float, where)


def _keys(value: Mapping[str, Any], where: str) -> str | None:
    """The key of a table that cannot be printed."""
    odd = [key for key in value if not str(key).isprintable()]
    return f"has a key that cannot be printed, '{printable(odd[0])}', in {where or 'its head'}" if odd else None


def _closest(faults: list[str | None]) -> str | None:
    """The most deeply nested error, which belongs to the most likely type."""
    return max(filter(None, faults), key=lambda text: text.count("."))


def _below(where: str, name: object) -> str:
    name = printable(name)[:LONGEST]
    return f"{where}.{name}" if where else name


def _other(value: Any, kind: type, where: str) -> str:
    found = NAMES.get(type(value), f"a value of type {type(value).__name__}")  # a checkpoint holds more types than JSON
    return f"has {found} at {where}, where {NAMES[kind]} is expected"
