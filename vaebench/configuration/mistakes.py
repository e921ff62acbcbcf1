"""Reading of the parser's error reports: the key, the given value, and the expected ones.

jsonargparse reports every alternative of every union, nested. The innermost of the first is the user's mistake; the
others list further accepted values.
"""

from __future__ import annotations

import re
from itertools import groupby, takewhile
from typing import NamedTuple

WORDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "NoneType": "null",
    "list": "a list", "dict": "a table", "tuple": "a list", "Path": "a path", "timedelta": "a duration",
}  # fmt: skip
CLASS = "a class such as {class_path: vaebench.NAME, init_args: {…}}"
LONGEST = 80  # characters of a value in a message
KEY = re.compile(r'Parser key "([^"]*)"(?: element \d+)?:')
OF_A_CLASS = re.compile(r"subclass|[iI]mport path|class_path|callable class|object has no attr|unhashable|not iterable")


class Mistake(NamedTuple):
    """One invalid setting.

    Attributes:
        key: its full key, such as 'model.posterior.net.width'.
        value: the given value, as in the report, cut to `LONGEST` characters.
        expected: accepted values, as text.
    """

    key: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"'{self.key}' cannot be {self.value or 'empty'}: expected {self.expected}; mend that value"


def mistake(report: str) -> Mistake | None:
    """The innermost mistake of a report; None where it names no key."""
    first, *after = re.split(r"\n\s*Given value type:", report)
    keys = list(KEY.finditer(first))
    if not keys:
        return None
    block = _block(first[keys[-1].end() :])
    key = ".".join(name for name, _ in groupby(match[1] for match in keys))  # 'trainer' within 'trainer' is the same
    return Mistake(key, shown(_given(block, "\n".join(after))), _expected(re.sub(r"Got value: .*", "", block), key))


def _block(text: str) -> str:
    """The lines with at least the indentation of the first line; less indented ones belong to outer alternatives."""
    lines = [line for line in text.splitlines() if line.strip()]
    depth = min((len(line) - len(line.lstrip()) for line in lines[:1]), default=0)
    return "\n".join(takewhile(lambda line: len(line) - len(line.lstrip()) >= depth, lines))


def shown(value: str) -> str:
    """A value for a message: on one line, and at most `LONGEST` characters."""
    value = " ".join(value.split())
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"


def _given(block: str, after: str) -> str:
    union = r"^\s*Given value: (.*)", after
    patterns = [
        (r"Expected a path but (.*?) either not accessible", block),
        (r"(?:Unable to load config|does not exist:|not a file:) ['\"]?(.*?)['\"]?$", block),
        *([union] if "Union subtypes" in block else []),
        (r"Got value: (.*?)(?=\. Got value: |$)", block),
        union,
    ]
    given = [match[1] for pattern, text in patterns for match in re.finditer(pattern, text, re.M)]
    nested = [re.sub(r"^NestedArg\(key='[^']*', val=(.*)\)$", r"\1", value) for value in given]
    return next((value for value in nested if "Namespace(" not in value), "what it is")


def _expected(inner: str, key: str) -> str:
    if literal := re.search(r"typing\.Literal\[([^\]]*)\]", inner):
        return f"one of {literal[1]}".replace("'", "")
    words = []
    for types in re.findall(r"Expected an? ([^\n]+)", inner):
        words += [WORDS.get(name, "") for name in re.findall(r"(?:<class '(?:\w+\.)*|\b)(\w+)(?:'>|\[)", types)]
    if OF_A_CLASS.search(inner):
        words = [CLASS, *(word for word in words if word != "null" or key not in ("model", "data"))]
    if "Unable to load config" in inner:
        words = ["a table of settings, or a file that holds one"]
    return " or ".join(dict.fromkeys(filter(None, words))) or "another value"
