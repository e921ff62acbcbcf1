"""The parser of a run's configuration: LightningCLI's with short names for families, data sets and parts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
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
