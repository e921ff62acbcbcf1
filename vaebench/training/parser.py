"""The parser of a run's configuration: LightningCLI's with short names for families, data sets and parts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import yaml
from jsonargparse import DefaultHelpFormatter, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from vaebench.configuration.explain import _kind, _located
from vaebench.configuration.parts import kind_of, located, of_kind


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
    """Replaces names of families, data sets and parts, as in `--model beta_vae`, by the paths of their classes."""
    flag = ""
    for arg in args:
        option, equals, value = arg.partition("=")
        option, value = (option, value) if equals else (flag, arg)
        flag = arg
        kind = _kind(option) if option.startswith("--") else ""
        if kind and not value.startswith("--"):
            yield f"{option}={_located(value, kind)}" if equals else _located(value, kind)
        else:
            yield arg


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
