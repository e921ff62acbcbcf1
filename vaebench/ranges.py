"""Ranges of numeric settings, checked for every part of the suite and of torch.

Whole numbers are at least 1 and others at least 0, unless a class overrides it in `RANGES`. All are finite.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from vaebench.errors import UserError


class Range(NamedTuple):
    """Numbers from `low` to `high`, without the ends that are open.

    >>> str(Range(0, 1, open_high=True)), str(Range(0, open_low=True)), 1 in Range(0, 1)
    ('at least 0 and less than 1', 'more than 0', True)
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low:g}" if self.low > -math.inf else ""
        high = f"{'less than' if self.open_high else 'at most'} {self.high:g}" if self.high < math.inf else ""
        return " and ".join(filter(None, (low, high))) or "a finite number"


COUNT, AMOUNT = Range(1), Range(0)  # defaults for whole and for other numbers
ANY, POSITIVE, SHARE = Range(), Range(0, open_low=True), Range(0, 1)
DECAY, INSIDE = Range(0, 1, open_high=True), Range(0, 1, True, True)


def ranges(cls: type) -> dict[str, Range]:
    """The range of every numeric argument of a class and its parents, by name."""
    declared: dict[str, Range] = {}
    for parent in reversed(cls.__mro__):
        foreign = parent.__module__.split(".")[0] in ("torch", "lightning", "builtins")
        if "__init__" in vars(parent) and (not foreign or parent.__module__.startswith("torch.optim.")):
            for name, argument in inspect.signature(vars(parent)["__init__"]).parameters.items():
                words = _numbers(argument.annotation)
                if {"int", "float"} & words:
                    declared[name] = AMOUNT if "float" in words else COUNT
        declared.update(vars(parent).get("RANGES", {}))
    return declared


def _numbers(annotation: Any) -> set[str]:
    """The numeric types, 'int' and 'float', of an argument, alone or in a list."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"\b(?:Sequence|Iterable|list|tuple)\[([^\[\]]*)\]", r"\1", text)
    return set() if "[" in text else {"int", "float"} & set(re.split(r"[|, ]+", text))


def require_ranges(cls: type, values: Mapping[str, Any], where: str, owner: str = "") -> None:
    """Refuses numbers outside their ranges; ignores other values.

    Args:
        cls: class of the settings.
        values: by name.
        where: prefix of the settings' keys, such as 'model.'.
        owner: prefix of a setting without a known key, such as 'Cosine.'.

    Raises:
        UserError: a number is outside its range.
    """
    for name, limit in ranges(cls).items():
        for value in values[name] if isinstance(values.get(name), list | tuple) else [values.get(name)]:
            if isinstance(value, int | float) and not isinstance(value, bool) and value not in limit:
                if not math.isfinite(value):
                    raise UserError(f"{owner}{name} is {value}: expected a finite number; mend {where}{name}")
                low = value < limit.low or (limit.open_low and value == limit.low)
                do = "raise" if low else "lower"
                raise UserError(f"{owner}{name} is {value}: expected {limit}; {do} {where}{name}")
