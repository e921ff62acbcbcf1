"""The parser of every command."""

from __future__ import annotations

import argparse
from typing import Any

from vaebench.configuration.registered import move_data, trust
from vaebench.errors import UserError, unknown


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UserError instead of printing its usage."""

    def error(self, message: str) -> None:  # type: ignore[override]
        subs = {n: p for a in self._actions if isinstance(a.choices, dict) for n, p in a.choices.items()}
        if message.startswith("unrecognized arguments: "):
            actions = [action for parser in (self, *subs.values()) for action in parser._actions]
            flags = sorted({flag for action in actions for flag in action.option_strings if flag.startswith("--")})
            name = message.split()[2]
            if not name.startswith("-"):
                raise UserError(f"'{name}' is one argument too many; `vaebench COMMAND --help` shows an example")
            raise unknown("option", name, flags, "`vaebench COMMAND --help` explains them.")
        if "invalid choice: " in message and subs:
            choices = list(subs)
            raise unknown("command", message.split("'")[1], choices, "`vaebench --help` explains them.")
        raise UserError(f"{message}; `{self.prog} --help` shows an example")


def logger_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--logger`, whose value `vaebench.loggers.Logbook` takes."""
    where = "log runs besides recording them: wandb, wandb:PROJECT, wandb:ENTITY/PROJECT, tensorboard or csv"
    parser.add_argument("--logger", help=where)


def trust_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--trust`, which registers a name for `vaebench.configuration.gate` as soon as it is read."""
    what = (
        "a class, module or file of yours that what is read may name, such as mypkg.MyVAE; can be given several times"
    )
    parser.add_argument("--trust", metavar="NAME", action=_Trust, help=what)


def root_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--data.root`, where the images of a data set of the user's own are now."""
    what = "where the images of a folder or file of your own are now (a place that a record names is not looked at)"
    parser.add_argument("--data.root", metavar="PLACE", action=_Move, help=what)


class _Move(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        move_data(values)


class _Trust(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        trust(values)
