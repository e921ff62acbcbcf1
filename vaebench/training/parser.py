"""The parser of a run's configuration: LightningCLI's with short names for families, data sets and parts."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import DefaultHelpFormatter, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from vaebench.configuration import own
from vaebench.configuration.explain import _kind, _located
from vaebench.configuration.parts import kind_of, located, of_kind
from vaebench.configuration.shipped import combination, find_shipped
from vaebench.errors import UserError


class Help(DefaultHelpFormatter):
    """Help that lists names of parts instead of all imported subclasses."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, kind = super()._get_help_string(action), kind_of(action.dest.rpartition(".")[2])
        if not kind or ", known subclasses: " not in text:
            return text
        names = ", ".join(part.listed for part in of_kind(kind).values())
        return f"{text.partition(', known subclasses: ')[0]}, names: {names})"


class Arguments(LightningArgumentParser):
    """LightningCLI's parser with this help, also for nested classes."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help, **settings})


LOGGER, FOLDERED = "--trainer.logger", ("CSVLogger", "TensorBoardLogger")
NAMES = "yaml with names"  # jsonargparse's name of a loader: YAML in which parts have short names
set_loader(NAMES, lambda text: located(get_loader("yaml")(text)), exceptions=(yaml.YAMLError,))


def expand_names(args: Iterable[str]) -> Iterator[str]:
    """Replaces names by what they stand for: of parts by class paths, of the suite's files by their paths.

    `--model vamp_vae`, where no family but a file below `configs/family` has that name, becomes `--config FILE`.
    """
    for option, value in _pairs(args):
        if value is None:
            yield option
        elif option == "--config":
            own = len(value) < 4096 and "\n" not in value and Path(value).is_file()
            yield f"{option}={value if own else find_shipped(value, 'configuration file') or value}"
        elif (file := combination(value) if option == "--model" else None) is not None:
            yield f"--config={file}"
        else:
            yield f"{option}={_located(value, _kind(option))}"


def classes_first(args: Iterable[str]) -> list[str]:
    """Arguments in which a family, a data set or a part is named before its settings, as the parser reads them.

    Raises:
        UserError: a setting of the family or the data set stands before the files that may name it, or nothing does.

    >>> classes_first(["--model.latent", "4", "--model.prior.components=9", "--model", "vae", "--model.prior=vamp"])
    ['--model=vae', '--model.latent', '4', '--model.prior=vamp', '--model.prior.components=9']
    """
    ordered: list[tuple[str, list[str]]] = []  # options, and their words
    for option, words in _grouped(args):
        at = next((at for at, (other, _) in enumerate(ordered) if other.startswith(f"{option}.")), None)
        if at is None or not _kind(option) or option in (other for other, _ in ordered) or "=" not in "=".join(words):
            ordered.append((option, words))
        else:
            ordered.insert(at, (option, ["=".join(words)]))
    named: set[str] = set()
    for option, _ in ordered:
        section, _, key = option.partition(".")
        setting = section in ("--model", "--data") and key and not option.endswith(".help")
        if setting and not named & {section, "--config"}:
            raise UserError(
                f"{option} stands before anything that names its class: expected {section} NAME, or --config FILE "
                "before it; put that first"
            )
        named.add(option)
    return [word for _, words in ordered for word in words]


def _grouped(args: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Options, each with its words: itself and its value."""
    rest = list(args)
    while rest:
        words = [rest.pop(0)]
        if words[0].startswith("--") and "=" not in words[0] and rest and not rest[0].startswith("--"):
            words.append(rest.pop(0))
        yield words[0].partition("=")[0], words


def with_own_defaults(args: Iterable[str]) -> Iterator[str]:
    """Arguments in which each part of the user's own is named with the defaults of its constructor.

    The parser hands the settings of a class on to the one in its place, where both have one of that name: a network of
    the user's own had the width of the suite's default. Between parts of the suite it does so still, since ids of runs
    follow from it.
    """
    for option, value in _pairs(args):
        yield option if value is None else f"{option}={value}"
        table = _table(value) if value is not None and option.startswith("--model.") else None
        part: Mapping[str, Any] = table if isinstance(table, Mapping) else {"class_path": table}
        settings = part.get("init_args", {})
        if own.is_path(path := str(part.get("class_path"))) and isinstance(settings, Mapping):
            for name, default in _defaults(own.require_class(path)).items():
                if name not in settings:
                    yield f"{option}.{name}={default if isinstance(default, str) else json.dumps(default)}"


def _defaults(constructor: Any) -> dict[str, Any]:
    """The plain values that settings of a class or a function have, where they are of a declared type.

    None is left out, which the parser takes for no value of a literal type.
    """
    settings = inspect.signature(constructor).parameters.values()
    return {
        one.name: one.default
        for one in settings
        if one.annotation is not one.empty and isinstance(one.default, bool | int | float | str)
    }


def with_folder(args: Sequence[str], folder: str) -> list[str]:
    """Arguments in which a logger of Lightning's that needs a folder, and is given none, has one.

    Args:
        args: command-line arguments.
        folder: that `trainer.logger=CSVLogger` or TensorBoardLogger writes to.
    """
    words = [word for arg in args for word in arg.split("=", 1)]
    chosen = [value for flag, value in pairwise(words) if flag == LOGGER]
    given = {f"{LOGGER}.save_dir", f"{LOGGER}.init_args.save_dir"} & set(words)
    if not chosen or given or chosen[-1].rpartition(".")[2] not in FOLDERED:
        return list(args)
    return [*args, f"{LOGGER}.save_dir={folder}"]


def own_paths(args: Iterable[str]) -> list[str]:
    """The paths of classes of the user's own that arguments name where a part or a class is expected."""
    found: list[str] = []
    for option, value in _pairs(args):
        if value is not None and option != "--config":
            found += named_paths(_table(value), _kind(option))
    return found


def named_paths(config: Any, kind: str = "") -> list[str]:
    """The paths of classes of the user's own in a table of settings; `kind` is what a text there stands for, if any."""
    if isinstance(config, Mapping):
        inner = [
            named_paths(value, "class" if key == "class_path" else kind_of(str(key))) for key, value in config.items()
        ]
        return [path for paths in inner for path in paths]
    if isinstance(config, list):
        return [path for value in config for path in named_paths(value, kind)]
    return [config] if kind and own.is_path(config) else []


def _table(value: str) -> Any:
    """A table in one line, or the text as it is."""
    try:
        return yaml.safe_load(value) if value.lstrip().startswith("{") else value
    except (yaml.YAMLError, RecursionError, ValueError):
        return value  # the parser says what is wrong with it


def _pairs(args: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Options that name a part or a file, each with its value; all else as it stands, with None."""
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        option, equals, value = arg.partition("=")
        if not (option == "--config" or (option.startswith("--") and _kind(option))):
            yield arg, None
        elif equals or not rest or rest[0].startswith("--"):
            yield option, value if equals else None
        else:
            yield arg, rest.pop(0)
