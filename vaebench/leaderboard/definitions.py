"""What each metric means, once each, in the words of the records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vaebench.records import RunRecord

NUMBER = re.compile(r"\b(?:None|\d[\d,.]*\d|\d)\b")
LISTED = 4  # different values of a number that are all named
DIRECTIONS = {True: "higher is better", False: "lower is better"}


class Definition(NamedTuple):
    """Name of a metric, its definition, its unit, and which direction is better, in words or empty."""

    name: str
    text: str
    unit: str
    direction: str


def definitions(records: Iterable[RunRecord]) -> list[Definition]:
    """The definition of every metric, sorted by name.

    Where those of several records differ in numbers alone, such as K or the size of the latent, the numbers are
    listed; where they differ in words, the most frequent ones are given, and the others follow.
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
    """Several wordings of one definition as one.

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
    """What a text says after the skeleton that it begins with."""
    numbers = usual.count("#")
    pieces = NUMBER.split(text, numbers)
    return pieces[-1].removeprefix(usual.rpartition("#")[2]).strip("; ")


def _with_numbers(texts: Sequence[str]) -> str:
    """Texts that differ in numbers alone, with all values of each; many are told by the smallest and the largest."""
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
