"""Checks on configurations from other people's files, before any object is built from them.

A checkpoint, a record or a card holds a configuration, and a configuration names classes: jsonargparse imports any
module that one names, and instantiates its classes. `vetted` checks a configuration before that happens. It admits
numbers, plain words, and the names of

- classes of the suite that configurations are made of (`vaebench.configuration.parts`), wherever they have moved since,
- those in `LIBRARY`, by exact name,
- those that the user has registered: `vb.trust("mypkg.MyVAE")`, or `--trust mypkg.MyVAE` on the command line.

Configurations of the user's own (`vaebench fit --config`, a benchmark, a sweep, `vb.build`) may name anything, and the
process remembers their names (`remember`). See `docs/security.md`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebench.configuration import parts
from vaebench.configuration.discovery import base
from vaebench.configuration.former import current
from vaebench.configuration.options import RECORDED
from vaebench.configuration.registered import (
    LIBRARY,
    WORD,
    in_registered_folder,
    in_registered_module,
    is_dotted,
    is_registered,
    module_member,
    moved,
    trusted,
)
from vaebench.configuration.slots import class_slots
from vaebench.errors import UserError, printable

DEEPEST, LARGEST = 40, 20_000  # nesting and total number of values, which a few lines with aliases can exceed


def vetted(config: Any, source: object, kind: str = "") -> dict[str, Any]:
    """Checks a class with its settings, {"class_path", "init_args"}; returns a copy with full class paths.

    Args:
        config: from a file.
        source: the file or record, for the error.
        kind: 'family' or 'data set', whose names may be short; default: any class.

    Raises:
        UserError: it names a class that is neither the suite's nor registered, or holds a value that is not plain.
    """
    if not isinstance(config, Mapping) or "class_path" not in config:
        raise _refused(source, "", config, "a class with its settings ({class_path: …, init_args: …})")
    return _Walk(source).table(current(config) if kind == "family" else config, "", _base(kind), 0)


def from_elsewhere(config: Any) -> bool:
    """Whether the configuration of a record is of a model from elsewhere, of which nothing is ever built."""
    model = config.get("model") if isinstance(config, Mapping) else None
    return isinstance(model, Mapping) and isinstance(model.get("adapter"), str)


def vetted_run(config: Any, source: object) -> dict[str, Any]:
    """Checks the configuration of a run: {"model", "data", "trainer"}, optimisers, schedulers and engine.

    Raises:
        UserError: as in `vetted`, the trainer has an option that is not in `RECORDED`, or the model is from elsewhere.
    """
    if from_elsewhere(config):
        raise UserError(
            f"'{source}' is of a model trained elsewhere: expected one of vaebench's, which can be built again; "
            "give `vaebench verify` the model itself again, as --adapter"
        )
    known = {"model", "data", "trainer", "engine", "sources"}
    learning = [key for key in config if parts.learning_key(str(key))] if isinstance(config, Mapping) else []
    if not isinstance(config, Mapping) or not {"model", "data"} <= config.keys() <= known | set(learning):
        raise _refused(source, "", config, "a run's configuration (model, data and trainer)")
    walk, checked = _Walk(source), {}
    checked["model"] = vetted(config["model"], source, "family")
    checked["data"] = vetted(config["data"], source, "data set")
    trainer = config.get("trainer") or {}
    if not isinstance(trainer, Mapping):
        raise _refused(source, "trainer", trainer, "a table of settings")
    for key, value in trainer.items():
        if key not in RECORDED and value not in (None, True, False):
            raise _refused(source, f"trainer.{key}", value, "no setting of the trainer that names a place or a logger")
        if key == "callbacks" and isinstance(value, str):
            raise _refused(source, "trainer.callbacks", value, "callbacks as {class_path: …}")
    checked["trainer"] = walk.value(trainer, "trainer", None, 0)
    for key in learning:
        checked[key] = vetted(config[key], source)
    if "engine" in config:
        checked["engine"] = walk.value(config["engine"], "engine", None, 0)
    if "sources" in config:
        checked["sources"] = _hashes(config["sources"], source)
    return checked


def _hashes(sources: Any, source: object) -> dict[str, str]:
    """SHA-256 by the names of modules, none of which is imported."""
    if not isinstance(sources, Mapping):
        raise _refused(source, "sources", sources, "a table of hashes")
    for name, value in sources.items():
        if not (isinstance(name, str) and is_dotted(f"x.{name}") and re.fullmatch("[0-9a-f]{64}", str(value))):
            raise _refused(source, "sources", f"{name}: {value}", "the SHA-256 of modules")
    return dict(sources)


class _Walk:
    """A walk through a configuration, which counts its values.

    Args:
        source: for errors.
    """

    def __init__(self, source: object) -> None:
        self.source, self.met = source, 0

    def value(self, value: Any, place: str, slot: type | None, depth: int) -> Any:
        """A checked value; `slot` is the class that a name must be or return here, None for plain values."""
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
        """A checked table, or a class with its settings."""
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
        checked: dict[str, Any] = {"class_path": path}
        known = parts.part_at(path)
        slots, places = class_slots(cls), known.places if known else ()
        for part in ("init_args", "dict_kwargs"):
            settings = table.get(part)
            if settings is None:
                continue
            if not isinstance(settings, Mapping) or "class_path" in settings:
                raise _refused(self.source, _below(place, part), settings, "a table of settings")
            self.table(dict.fromkeys(settings), place, None, depth)
            checked[part] = {
                key: self._place(value) if key in places
                else self.value(value, _below(place, key), slots.get(key), depth + 1)
                for key, value in settings.items()
            }  # fmt: skip
        return checked

    def _place(self, value: Any) -> str | None:
        """Where a data set's images lie: where the user says, or as the file says where the user has named that too."""
        if moved() is not None:
            return moved()
        try:
            return self._text(value, "") if isinstance(value, str) else None
        except UserError:
            return None

    def _text(self, text: str, place: str) -> str:
        if is_registered(text) or in_registered_folder(text):
            return text
        if is_dotted(text):
            self._class(text, place, None)
        elif not WORD.fullmatch(text):
            raise _refused(self.source, place, text, "a plain word", NAMED)
        elif os.path.lexists(text) and not Path(text).is_dir():  # jsonargparse reads files that strings name
            raise _refused(self.source, place, text, "a word that is not the name of a file here")
        return text

    def _class(self, path: Any, place: str, slot: type | None) -> tuple[str, Any]:
        """The full path of an admitted class, and the class, None where the user registered it by exact name."""
        if isinstance(path, str):
            if path in LIBRARY or is_registered(path):
                return path, _named(path)
            if "." not in path and (short := _short(path, slot)):
                path = short
            if part := parts.part_at(path):
                return part.path, _named(part.path)
            if (registered := in_registered_module(path)) is not None:
                return path, registered
        if isinstance(path, str) and is_dotted(f"x.{path}"):
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


def _named(path: str) -> Any:
    """The object at the path of a part or a registered class; None for `LIBRARY` and where it is missing."""
    module, _, name = path.rpartition(".")
    return module_member(module, name) if is_dotted(path) and path not in LIBRARY else None


def _base(kind: str) -> type | None:
    return base(kind) if kind else None


def _short(name: str, slot: type | None) -> str:
    """The path of the only class with a short name that fits a slot; '' where there is none or several."""
    own = [path for path in trusted() if path.rpartition(".")[2] == name and is_dotted(path)]
    candidates = own or [part.path for part in parts.index() if part.name == name and _fits(_named(part.path), slot)]
    return candidates[0] if len(candidates) == 1 else ""


def _fits(cls: Any, slot: type | None) -> bool:
    return slot is None or (inspect.isclass(cls) and issubclass(cls, slot))
