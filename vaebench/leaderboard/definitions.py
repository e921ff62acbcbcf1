"""Definitions of the metrics, one each, as the records state them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vaebench.records import RunRecord

NUMBER = re.compile(r"\b(?:None|\d[\d,.]*\d|\d)\b")
LISTED = 4  # most values of a number that are listed one by one
DIRECTIONS = {True: "higher is better", False: "lower is better"}


class Definition(NamedTuple):
    """Name, definition and unit of a metric, and its better direction as text, empty without one."""

    name: str
    text: str
    unit: str
    direction: str


def definitions(records: Iterable[RunRecord]) -> list[Definition]:
    """The definition of every metric, sorted by name.

    Definitions that differ only in numbers, such as K or the latent size, are merged and list the numbers. Others are
    listed by frequency.
    """
    texts: dict[str, Counter[str]] = {}
    about: dict[str, tuple[str, str]] = {}
    for record in records:
        for name, metric in record.metrics.items():
            if metric.get("definition"):
                texts.setdefault(name, Counter())[str(metric["definition"])] += 1
                direction = DIRECTIONS.get(metric.get("higher_is_better"), "")
                about.setdefault(name, (str(metric.get("unit") or ""), direction))
    return [Definition(name.replace("_", " "), merged(texts[name]), *about[name]) for name in sorted(texts)]


def merged(texts: Counter[str]) -> str:
    """Merges several wordings of one definition.

    >>> merged(Counter({"L_K, K = 500": 3, "L_K, K = 100": 1, "L_K, K = None": 1}))
    'L_K, K = 100 or 500'
    """
    kinds: dict[str, list[str]] = {}
    for text, _ in texts.most_common():
        kinds.setdefault(NUMBER.sub("#", text), []).append(text)
    usual, first = next(iter(kinds.items()))
    others = [same for kind, same in kinds.items() if kind != usual]
    rest = [_with_numbers(same) for same in others if not NUMBER.sub("#", same[0]).startswith(usual)]
    added = [_rest(usual, same[0]) for same in others if NUMBER.sub("#", same[0]).startswith(usual)]
    return "; ".join([_with_numbers(first), *(f"for some models: {text}" for text in [*added, *rest])])


def _rest(usual: str, text: str) -> str:
    """The part of a text after a common beginning."""
    numbers = usual.count("#")
    pieces = NUMBER.split(text, numbers)
    return pieces[-1].removeprefix(usual.rpartition("#")[2]).strip("; ")


def _with_numbers(texts: Sequence[str]) -> str:
    """Texts that differ only in numbers, merged with all values of each; many values are given as a range."""
    pieces, values = NUMBER.split(texts[0]), zip(*(NUMBER.findall(text) for text in texts), strict=True)
    shown = [_values(set(numbers)) for numbers in values]
    return "".join(piece + number for piece, number in zip(pieces, [*shown, ""], strict=True))


def _values(numbers: set[str]) -> str:
    known = sorted(numbers - {"None"}, key=lambda text: float(text.replace(",", "")) if text.count(".") < 2 else 0.0)
    if not known:
        return "none"
    if len(known) > LISTED:
        return f"{known[0]} to {known[-1]}"
    return " or ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
