"""`vaebench completion`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from itertools import pairwise

from vaebench.configuration.discovery import names, protocols
from vaebench.configuration.early import TRAINER, arguments_of
from vaebench.configuration.explain import _kind
from vaebench.configuration.parts import of_kind
from vaebench.configuration.shipped import shipped_names

HELP = "print what makes a shell complete commands, options, families, data sets and parts"
EXAMPLE = 'vaebench completion bash      # eval "$(vaebench completion bash)" in ~/.bashrc, and zsh in ~/.zshrc'
SHELLS = ("bash", "zsh")
SCRIPT = """\
_vaebench() {
  local IFS=$'\\n'
  COMPREPLY=($(vaebench completion words -- "${COMP_WORDS[@]:1:$COMP_CWORD}" 2>/dev/null))
}
complete -o default -o nosort -F _vaebench vaebench
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
FIT = ("--config", "--data", "--help", "--help-all", "--include", "--logger", "--lr_scheduler", "--model",
       "--optimizer", "--out", "--pictures", "--seed_everything")  # fmt: skip
FILES = {"bench": "benchmark file", "plan": "benchmark file", "sweep": "sweep file"}  # of the suite, by command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=[*SHELLS, "words"], help="bash or zsh; words is what their scripts call")
    parser.add_argument("typed", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench completion`: prints a script, or the words that may stand in the place of the last one typed."""
    if arguments.shell == "words":
        from vaebench.cli import commands, parser

        typed = arguments.typed[1:] if arguments.typed[:1] == ["--"] else arguments.typed
        options = {name: sub for action in parser()._actions if isinstance(action.choices, dict)
                   for name, sub in action.choices.items()}  # fmt: skip
        print("\n".join(words(typed or [""], list(commands()), options)))
        return 0
    print((ZSH if arguments.shell == "zsh" else "") + SCRIPT, end="")
    return 0


def words(typed: Sequence[str], commands: Iterable[str], parsers: dict[str, argparse.ArgumentParser]) -> list[str]:
    """What may stand in the place of the last word.

    Args:
        typed: words after `vaebench`; the last one is being typed.
        commands: all commands.
        parsers: of the commands.

    >>> words(["fit", "--model", "beta_t"], [], {}), words(["fit", "--model=beta_t"], [], {})  # bash cuts words at =
    (['beta_tc_vae'], ['--model=beta_tc_vae'])
    """
    typed = [word for at, word in enumerate(typed) if word != "=" or at == len(typed) - 1]
    *before, last = [*typed[:-1], typed[-1].removeprefix("=")] if len(typed) > 1 else typed
    if not before:
        return _fitting(last, commands)
    command, previous = before[0], before[-1]
    option, equals, value = last.partition("=")
    if equals and (kind := _kind(option)):
        return [f"{option}={word}" for word in _fitting(value, _names(kind))]
    if kind := _kind(previous) if previous.startswith("--") and "=" not in previous else "":
        return _fitting(last, _names(kind))
    if command == "fit":
        if previous == "--config":
            return _fitting(last, shipped_names("configuration file"))
        return _fitting(last, [*FIT, *_settings(typed)]) if last.startswith("-") else []
    actions = parsers[command]._actions if command in parsers else []
    for action in actions:
        if previous in action.option_strings:
            return _fitting(last, protocols() if previous == "--protocol" else action.choices or ())
    if last.startswith("-"):
        every = [option for action in actions for option in action.option_strings if option.startswith("--")]
        return _fitting(last, [*every, "--include", *(_settings(typed) if command in ("evaluate", "explore") else [])])
    if command in FILES:
        return _fitting(last, [name.rpartition("/")[2] for name in shipped_names(FILES[command])])
    if command == "parts":
        from vaebench.commands.parts import KINDS

        return _fitting(last, KINDS)
    return _fitting(last, [name for action in actions if not action.option_strings for name in action.choices or ()])


def _names(kind: str) -> list[str]:
    """Names of a kind, as a configuration may have them."""
    if kind == "family":
        return [*names(kind), *shipped_names("family")]
    return names(kind) if kind == "data set" else [part.name for part in of_kind(kind).values()]


def _settings(typed: Sequence[str]) -> list[str]:
    """Settings of the family, the data set and the trainer that the words name."""
    chosen = {option: value for option, value in pairwise(typed) if option in ("--model", "--data")}
    chosen |= dict(word.split("=", 1) for word in typed if word.startswith(("--model=", "--data=")))
    found = [f"--trainer.{name}" for name in sorted(TRAINER)]
    for option, kind in (("--model", "family"), ("--data", "data set")):
        found += [f"{option}.{name}" for name in arguments_of(kind, chosen.get(option, ""))]
    return found


def _fitting(last: str, candidates: Iterable[str]) -> list[str]:
    return sorted({word for word in candidates if word.startswith(last)})
