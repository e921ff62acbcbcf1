"""What a file may name. Whatever builds objects from a file that may be someone else's asks here first.

A checkpoint, a record or a card holds a configuration, and a configuration names classes: jsonargparse imports any
module that one names, and instantiates what it finds there. `vetted` walks a configuration before that happens. It lets
through numbers, plain words, and the names of

- classes of the suite that configurations are made of (`vaebench.configuration.parts`), wherever they have moved since,
- those in `LIBRARY`, by exact name,
- those that the user has registered: `vb.trust("mypkg.MyVAE")`, or `--trust mypkg.MyVAE` on the command line.

Configurations that the user gives themselves (`vaebench fit --config`, a benchmark, a sweep, `vb.build`) may name
anything, and what they name is `remembered` for as long as the process lives. See `docs/security.md`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vaebench.configuration import parts
from vaebench.configuration.former import current
from vaebench.configuration.options import RECORDED
from vaebench.errors import UserError, printable

LIBRARY = frozenset(
    {"vaebench.measures.DataSpec"}
    | {f"lightning.pytorch.callbacks.{name}" for name in ("EarlyStopping", "early_stopping.EarlyStopping", "Timer")}
    | {f"torch.nn.{name}" for name in ("ELU", "GELU", "Identity", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softplus",
                                       "Tanh")}
    | {part.path for part in parts.torch_parts()}
)  # fmt: skip
"""Other classes that configurations may name: none of them writes, calls or imports what it is given."""

DEEPEST, LARGEST = 40, 20_000  # tables in tables, and values in all: a few lines of a file can stand for more
WORD = re.compile(
    r"[\w+\- ]{0,100}"  # binary, bf16-mixed
    r"|(train|val)/[\w.+\-]{1,100}"  # what a callback monitors
    r"|[+-]?[\d.]{1,30}(e[+-]?\d{1,5})?"  # a number as text
    r"|\d{1,4}(:\d{1,4}){1,3}"  # a time
)
PLAIN = (int, float, str, bool, bytes, complex, type(None), Path, tuple, list, dict)

_said: set[str] = set()  # names and places that the user has named in this process


def trust(*names: str | type) -> None:
    """Registers classes, modules or files that configurations in checkpoints, records and cards may name.

    Args:
        names: a class or its path ('mypkg.MyVAE'), a module ('mypkg', with all classes and functions that are defined
            in it or below it), or a file or folder that configurations may point at ('/data/faces.npz').

    Raises:
        UserError: a name that is none of these.
    """
    for name in names:
        if isinstance(name, type):
            name = f"{name.__module__}.{name.__qualname__}"
        if not isinstance(name, str) or not name.strip():
            raise UserError(
                f"{name!r} cannot be trusted: expected a class such as mypkg.MyVAE, a module, or a file; name one"
            )
        _said.add(name)


def trusted() -> tuple[str, ...]:
    """All that the user has named in this process, for another process that works for the same user."""
    return tuple(sorted(_said))


def remember(config: Any) -> None:
    """Trusts what a configuration of the user's own names, so that what it trains can be loaded by this process."""
    _said.update(foreign(config))


def foreign(config: Any) -> list[str]:
    """The texts of a configuration that are neither plain words nor names of the suite's: what `--trust` must name."""
    texts = dict.fromkeys(_texts(config))
    return [
        text for text in texts if not WORD.fullmatch(text) and not text.startswith("vaebench.") and text not in LIBRARY
    ]


def _texts(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif inspect.isfunction(config) or inspect.isclass(config):
        yield f"{config.__module__}.{config.__qualname__}"
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _texts(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _texts(value)


# The walk ---------------------------------------------------------------------------------------------------------


def vetted(config: Any, source: object, kind: str = "") -> dict[str, Any]:
    """A class with its settings, {"class_path", "init_args"}, that may be built: a copy, with every class by full name.

    Args:
        config: as a file holds it.
        source: the file or record, for the error.
        kind: 'family' or 'data set', whose names may be short; default: any class.

    Raises:
        UserError: it names what is neither the suite's nor registered, or holds what is no plain value.
    """
    if not isinstance(config, Mapping) or "class_path" not in config:
        raise _refused(source, "", config, "a class with its settings ({class_path: …, init_args: …})")
    return _Walk(source).table(current(config) if kind == "family" else config, "", _base(kind), 0)


def vetted_run(config: Any, source: object) -> dict[str, Any]:
    """The configuration of a run, {"model", "data", "trainer"}, optimisers and what trained it, that may be built.

    Raises:
        UserError: as `vetted`, or the trainer has a option that is not in `RECORDED`.
    """
    known = {"model", "data", "trainer", "engine"}
    learning = [key for key in config if parts.learning_key(str(key))] if isinstance(config, Mapping) else []
    if not isinstance(config, Mapping) or not {"model", "data"} <= config.keys() <= known | set(learning):
        raise _refused(source, "", config, "a run's configuration (model, data and trainer)")
    walk, found = _Walk(source), {}
    found["model"] = vetted(config["model"], source, "family")
    found["data"] = vetted(config["data"], source, "data set")
    trainer = config.get("trainer") or {}
    if not isinstance(trainer, Mapping):
        raise _refused(source, "trainer", trainer, "a table of settings")
    for key, value in trainer.items():
        if key not in RECORDED and value not in (None, True, False):
            raise _refused(source, f"trainer.{key}", value, "no setting of the trainer that names a place or a logger")
        if key == "callbacks" and isinstance(value, str):
            raise _refused(source, "trainer.callbacks", value, "callbacks as {class_path: …}")
    found["trainer"] = walk.value(trainer, "trainer", None, 0)
    for key in learning:
        found[key] = vetted(config[key], source)
    if "engine" in config:
        found["engine"] = walk.value(config["engine"], "engine", None, 0)
    return found


class _Walk:
    """One walk through a configuration, which counts what it meets.

    Args:
        source: for errors.
    """

    def __init__(self, source: object) -> None:
        self.source, self.met = source, 0

    def value(self, value: Any, place: str, slot: type | None, depth: int) -> Any:
        """A value that may be built from; `slot` is the class that a name there must be or give, None where none is."""
        self.met += 1
        if depth > DEEPEST or self.met > LARGEST:
            raise _refused(self.source, place.partition(".")[0], "…", f"at most {LARGEST:,} settings, {DEEPEST} deep")
        if isinstance(value, str):
            if slot is not None:
                return {"class_path": self._class(value, place, slot)[0]}
            return self._text(value, place)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return self.table(value, place, slot, depth)
        if isinstance(value, list | tuple):
            items = [self.value(item, f"{place}[{i}]", slot, depth + 1) for i, item in enumerate(value)]
            return tuple(items) if isinstance(value, tuple) else items
        raise _refused(self.source, place, type(value).__name__, "numbers, words, tables and lists")

    def table(self, table: Mapping[Any, Any], place: str, slot: type | None, depth: int) -> dict[str, Any]:
        """A table, or a class with its settings."""
        for key in table:
            if not (isinstance(key, str) and key.isidentifier() and not key.startswith("__")):
                raise _refused(self.source, place, key, "names of settings")
        if "class_path" not in table:
            if slot is not None:
                raise _refused(self.source, place, ", ".join(table), "a class with its settings, {class_path: …}")
            return {key: self.value(value, _below(place, key), None, depth + 1) for key, value in table.items()}
        if wrong := sorted(table.keys() - {"class_path", "init_args", "dict_kwargs"}):
            raise _refused(self.source, place, wrong[0], "class_path and init_args alone")
        path, cls = self._class(table["class_path"], place, slot)
        found: dict[str, Any] = {"class_path": path}
        slots = _slots(cls)
        for part in ("init_args", "dict_kwargs"):
            settings = table.get(part)
            if settings is None:
                continue
            if not isinstance(settings, Mapping) or "class_path" in settings:
                raise _refused(self.source, _below(place, part), settings, "a table of settings")
            self.table(dict.fromkeys(settings), place, None, depth)
            found[part] = {
                key: self.value(value, _below(place, key), slots.get(key), depth + 1) for key, value in settings.items()
            }
        return found

    def _text(self, text: str, place: str) -> str:
        if text in _said or _below_trusted_place(text):
            return text
        if _dotted(text):
            self._class(text, place, None)
        elif not WORD.fullmatch(text):
            raise _refused(self.source, place, text, "a plain word", NAMED)
        elif os.path.lexists(text) and not Path(text).is_dir():  # jsonargparse reads files that strings name
            raise _refused(self.source, place, text, "a word that is not the name of a file here")
        return text

    def _class(self, path: Any, place: str, slot: type | None) -> tuple[str, Any]:
        """The full path of a class that may be built, and the class; None for one that the user named exactly."""
        if isinstance(path, str):
            if path in LIBRARY or path in _said:
                return path, _named(path)
            if "." not in path and (short := _short(path, slot)):
                path = short
            if part := parts.part_at(path):
                return part.path, _named(part.path)
            if (found := _within_trusted(path)) is not None:
                return path, found
        if isinstance(path, str) and _dotted(f"x.{path}"):
            raise _refused(self.source, place, path, "a class of vaebench's", NAMED)
        raise _refused(self.source, place, path, "a class of vaebench's by its path")


NAMED = "where that is your own or you have read its code, name it with --trust, or call vb.trust"
FOUND = "nothing of it was used; take a file from somebody you trust"


def _refused(source: object, place: str, value: Any, expected: str, remedy: str = FOUND) -> UserError:
    what = printable(value)
    what = what if len(what) <= 80 else f"{what[:80]}…"
    return UserError(f"'{source}' has {place or 'a configuration'} '{what}': expected {expected}; {remedy}")


def _below(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _dotted(text: str) -> bool:
    return "." in text and all(part.isidentifier() for part in text.split("."))


def _below_trusted_place(text: str) -> bool:
    """Whether a text is the path of a file in a folder that the user named."""
    if "\0" in text or "://" in text or len(text) > 4096:
        return False
    path = Path(text).expanduser()
    return any(os.sep in name and path.resolve().is_relative_to(Path(name).expanduser().resolve()) for name in _said)


# Names and what they stand for ------------------------------------------------------------------------------------


def _within_trusted(path: str) -> Any:
    """The class or function that is defined in or below a module that the user named; None where there is none."""
    module, _, name = path.rpartition(".")
    if not _dotted(path):
        return None
    for known in _said:
        if _dotted(f"x.{known}") and (module == known or module.startswith(f"{known}.")):
            found = _member(module, name)
            if (inspect.isclass(found) or inspect.isfunction(found)) and (
                found.__module__ == known or found.__module__.startswith(f"{known}.")
            ):
                return found
    return None


def _named(path: str) -> Any:
    """What the path of a part or of a class that the user named stands for; None for `LIBRARY`, and where it is not."""
    module, _, name = path.rpartition(".")
    return _member(module, name) if _dotted(path) and path not in LIBRARY else None


def _member(module: str, name: str) -> Any:
    try:
        return vars(import_module(module)).get(name)
    except ImportError:
        return None


def _base(kind: str) -> type | None:
    from vaebench.configuration.discovery import base

    return base(kind) if kind else None


def _short(name: str, slot: type | None) -> str:
    """The path of the one class with a short name that a slot takes; '' where there is none or several."""
    own = [path for path in _said if path.rpartition(".")[2] == name and _dotted(path)]
    found = own or [part.path for part in parts.index() if part.name == name and _fits(_named(part.path), slot)]
    return found[0] if len(found) == 1 else ""


def _fits(cls: Any, slot: type | None) -> bool:
    return slot is None or (inspect.isclass(cls) and issubclass(cls, slot))


def _slots(cls: Any) -> dict[str, type]:
    """The settings of a class or function that are classes themselves, by name, with what each must be or give."""
    found: dict[str, type] = {}
    for parent in reversed(inspect.getmro(cls) if inspect.isclass(cls) else [cls]):
        function = vars(parent).get("__init__") if inspect.isclass(parent) else parent
        if inspect.isfunction(function):
            for name, hint in _hints(function).items():
                found.pop(name, None)
                if (kind := _kind(hint)) is not None:
                    found[name] = kind
    return found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # a user's own annotations may name what is not there at run time
        return {}


def _kind(hint: Any) -> type | None:
    """The class that a value of a type is, or that it gives where it is called; None for plain values."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Callable):  # type: ignore[arg-type]
        kind = _kind(inside[-1]) if inside else None
        return kind or object
    if origin in (Union, UnionType):
        return None if str in inside else next(filter(None, map(_kind, inside)), None)
    if origin is not None:
        return next(filter(None, map(_kind, inside)), None) if inside and not _literal(origin) else None
    return hint if inspect.isclass(hint) and hint is not Any and not issubclass(hint, PLAIN) else None


def _literal(origin: Any) -> bool:
    return origin is Literal
