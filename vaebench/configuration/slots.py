"""Which settings of a class take another class, read from its annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PLAIN = (int, float, str, bool, bytes, complex, type(None), Path, tuple, list, dict)


def class_slots(cls: Any) -> dict[str, type]:
    """The settings of a class or function that take a class, by name, with the class that each must be or return."""
    slots: dict[str, type] = {}
    for parent in reversed(inspect.getmro(cls) if inspect.isclass(cls) else [cls]):
        function = vars(parent).get("__init__") if inspect.isclass(parent) else parent
        if inspect.isfunction(function):
            for name, hint in _hints(function).items():
                slots.pop(name, None)
                if (kind := slot_type(hint)) is not None:
                    slots[name] = kind
    return slots


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # a user's annotations may contain names that are missing at run time
        return {}


def slot_type(hint: Any) -> type | None:
    """The class of a value of a type, or that it returns when called; None for plain values."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Callable):  # type: ignore[arg-type]
        kind = slot_type(inside[-1]) if inside else None
        return kind or object
    if origin in (Union, UnionType):
        return None if str in inside else next(filter(None, map(slot_type, inside)), None)
    if origin is not None:
        return next(filter(None, map(slot_type, inside)), None) if inside and not _literal(origin) else None
    return hint if inspect.isclass(hint) and hint is not Any and not issubclass(hint, PLAIN) else None


def _literal(origin: Any) -> bool:
    return origin is Literal
