"""A YAML file with the line of everything in it, so that a mistake can be answered with the place where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from vaebench.errors import UserError, unknown

Place = tuple[str | int, ...]  # the keys, and positions in lists, that lead to a value


class Source:
    """A file's content, and the line (from 1) of every value in it.

    Args:
        path: of the file.
        kind: what it is called in errors.

    Raises:
        UserError: no such file, not YAML, or a key that stands twice in one table.
    """

    def __init__(self, path: Path, kind: str = "sweep file") -> None:
        self.path = path
        if not path.is_file():
            raise unknown(kind, str(path), [str(p) for p in sorted(path.parent.glob("*.yaml"))])
        try:
            text = path.read_text(encoding="utf-8")
            self.content: Any = yaml.safe_load(text)
            root = yaml.compose(text, yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"'{path}' is not YAML: {' '.join(str(error).split())}; mend that line") from error
        self.lines: dict[Place, int] = {}
        for place, line in _lines(root, ()) if root else ():
            if place in self.lines:
                raise UserError(
                    f"'{path}', line {line}: '{place[-1]}' stands here for the second time, first in line "
                    f"{self.lines[place]}; remove one of them"
                )
            self.lines[place] = line

    def error(self, sentence: str, *place: str | int) -> UserError:
        """A UserError that begins with the file and the line of the innermost part of `place` that the file has."""
        while place and place not in self.lines:
            place = place[:-1]
        return UserError(f"'{self.path}', line {self.lines.get(place, 1)}: {sentence}")

    def table(self, known: Iterable[str], *place: str | int) -> dict[str, Any]:
        """The table at a place, {} where there is none; refuses keys that are not `known`."""
        content = self.at(*place)
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise self.error(f"expected a table with {', '.join(known)}, not {content!r}", *place)
        for key in content:
            if key not in (names := list(known)):
                raise self.error(str(unknown("key", str(key), names)), *place, key)
        return content

    def at(self, *place: str | int) -> Any:
        """The value at a place, None where there is none."""
        content = self.content
        for key in place:
            content = content.get(key) if isinstance(content, dict) else None
        return content


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(value, (*place, index))
