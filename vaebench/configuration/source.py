"""A YAML file with the line of everything in it, so that a mistake can be answered with the place where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vaebench.configuration.shipped import find_file, find_shipped, unknown_file
from vaebench.errors import UserError, unknown

MOST = 100_000  # values of a file; aliases of aliases make millions of a few lines
KeyPath = tuple[str | int, ...]  # the keys, and positions in lists, that lead to a value


class Source:
    """A file's content, and the line (from 1) of every value in it.

    Args:
        path: of the file, or the name of one of the suite's.
        kind: what it is called in errors, one of `shipped.SEARCHED` or a kind of files that are given by path alone.

    Attributes:
        path: where the file was found.

    Raises:
        UserError: no such file, not YAML, a key that stands twice in one table, what no setting takes, such as a date,
            or more than `MOST` values.
    """

    def __init__(self, path: Path, kind: str = "sweep file") -> None:
        self.path = path = find_file(path, kind)
        self.content, root = _read(path)
        self.lines: dict[KeyPath, int] = {}
        try:
            self._walk(root)
        except RecursionError:
            raise UserError(f"'{path}' is nested too deeply, or holds itself by an alias; write it out") from None

    def _walk(self, root: yaml.Node | None) -> None:
        for place, line in _lines(root, ()) if root else ():
            if place in self.lines:
                raise UserError(
                    f"'{self.path}', line {line}: '{place[-1]}' stands here for the second time, first in line "
                    f"{self.lines[place]}; remove one of them"
                )
            self.lines[place] = line
            if len(self.lines) > MOST:
                raise UserError(f"'{self.path}' holds more than {MOST:,} values, aliases counted; shorten it")
        for place, reason in _strange(self.content):
            raise self.error(f"{reason}; put it in quotes", *place)

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


def _read(path: Path) -> tuple[Any, yaml.Node | None]:
    """A file's content and its tree.

    Raises:
        UserError: it is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except UnicodeDecodeError:
        raise UserError(f"'{path}' is no text: expected YAML; give another file") from None
    except RecursionError:
        raise UserError(f"'{path}' is nested too deeply; write it out") from None
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"'{path}' is not YAML: {error.problem or error.context}{line}; mend it") from error
    except yaml.YAMLError as error:
        raise UserError(f"'{path}' is not YAML: {str(error).splitlines()[0]}; mend it") from error
    except (ValueError, AttributeError, LookupError) as error:  # what its constructors of scalars raise
        raise UserError(f"'{path}' is not YAML: a date, or a value with a tag, is none; put it in quotes") from error


def _strange(value: Any, place: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Where something stands that YAML has and no setting takes, such as a date."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strange(inner, (*place, key))
            if not isinstance(key, str | int | float | None):
                yield place, f"the key {key} is a {type(key).__name__}: expected a text"
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strange(inner, (*place, index))
    elif not isinstance(value, str | int | float | None):
        yield place, f"{value} is a {type(value).__name__}: expected a text or a number"


def _lines(node: yaml.Node, place: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, key.value), key.start_mark.line + 1
            yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(value, (*place, index))


def argument(key: str, value: Any) -> str:
    """One setting as an argument of `vaebench fit`.

    >>> argument("model.beta", 0.5), argument("model.clip", None), argument("model.prior", {"class_path": "X"})
    ('--model.beta=0.5', '--model.clip=null', '--model.prior={"class_path": "X"}')
    """
    return f"--{key}={value if isinstance(value, str | Path) else json.dumps(value)}"


def config_file(source: Source, name: Any, *place: str | int) -> Path:
    """A configuration file that a benchmark or sweep file names: relative to it, or one of the suite's by its name."""
    path = (source.path.parent / str(name)).resolve()
    if path.is_file():
        return path
    if (found := find_shipped(str(name), "configuration file")) is not None:
        return found
    near = [p.name for p in sorted(path.parent.glob("*.yaml"))]
    raise source.error(str(unknown_file(str(name), "configuration file", near)), *place)
