"""The command line. Each command imports its dependencies when it runs, so that help is fast."""

from __future__ import annotations

import argparse
import gc
import importlib
import pkgutil
import sys
import textwrap
from types import ModuleType

from vaebench import commands as package
from vaebench._version import __version__
from vaebench.commands._parser import Parser
from vaebench.configuration.own import include
from vaebench.configuration.registered import trust
from vaebench.errors import NO_MEMORY, UserError, disk_error, out_of_memory

EXAMPLES = """\
examples:
  vaebench bench digits                                 three families, three seeds, a leaderboard
  vaebench fit --data digits --model beta_vae --model.beta 2 --trainer.max_epochs 50
  vaebench evaluate runs/digits-beta_vae-s0-180ab1ac/model.ckpt --protocol full
  vaebench sweep digits                                 search settings, on every device there is
  vaebench leaderboard results --html leaderboard.html

Every command takes --include FILE.py, a file of your own whose classes are then parts like all others.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit code: 0, 1 where some of several runs failed, 2 for a mistake of the user's, 3 for a run that diverged,
        130 when interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    # Imports create a million permanent objects, and scanning them repeatedly took a sixth of a short fit.
    gc.set_threshold(700, 10, 1000)
    try:
        return _dispatch(argv)
    except UserError as error:
        print(f"vaebench: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        more = " with --resume" if argv[:1] == ["sweep"] and "--resume" not in argv else ""
        print(f"vaebench: interrupted; the same command{more} goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        print(f"vaebench: {NO_MEMORY}", file=sys.stderr)
        return 2
    except OSError as error:
        if (sentence := disk_error(error)) is None:
            raise
        print(f"vaebench: {sentence}", file=sys.stderr)
        return 2


def _dispatch(argv: list[str]) -> int:
    modules, argv = commands(), _including(argv)
    if argv and hasattr(modules.get(argv[0]), "raw"):
        return modules[argv[0]].raw(argv[1:])
    prefix = vars(modules[argv[0]]).get("SETTINGS") if argv and argv[0] in modules else None
    if prefix is None:
        arguments = parser().parse_args(argv)
    else:
        argv, settings = _settings(argv, prefix)
        arguments = parser().parse_args(argv)
        arguments.settings = settings
    return arguments.run(arguments)


def _settings(argv: list[str], prefix: str) -> tuple[list[str], list[str]]:
    """Takes options that begin with a prefix, and are none of the command's own, from the arguments: `--data.KEY`."""
    known = {f"{prefix}root"}
    rest, settings, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith(prefix) or word.partition("=")[0] in known:
            rest.append(word)
        elif "=" in word or not words or words[0].startswith("--"):
            settings.append(word)
        else:
            settings.append(f"{word}={words.pop(0)}")
    return rest, settings


def _including(argv: list[str]) -> list[str]:
    """Takes `--include FILE`, which every command has, from the arguments, and the files in."""
    top = Parser("vaebench", add_help=False, allow_abbrev=False)
    top.add_argument("--include", action="append", default=[])
    found, rest = top.parse_known_args(argv)
    for file in found.include:
        trust(include(file))
    return rest


def commands() -> dict[str, ModuleType]:
    """The modules of `vaebench.commands` by name, without those that start with _; `import_` is `import`."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_")
    return {name.rstrip("_"): importlib.import_module(f"{package.__name__}.{name}") for name in names}


def parser() -> Parser:
    """The parser of all commands, each with an example."""
    raw = argparse.RawDescriptionHelpFormatter
    top = Parser("vaebench", description="A referee for variational autoencoders.", epilog=EXAMPLES,
                 formatter_class=raw, allow_abbrev=False)  # fmt: skip
    top.add_argument("--version", action="version", version=__version__)
    parsers = top.add_subparsers(required=True, metavar="COMMAND", title="commands", parser_class=Parser)
    for name, module in commands().items():
        if hasattr(module, "raw"):
            parsers.add_parser(name, help=module.HELP, add_help=False)
            continue
        example = textwrap.indent(module.EXAMPLE, "  ")
        sub = parsers.add_parser(name, help=module.HELP, description=module.HELP, epilog=f"example:\n{example}",
                                 formatter_class=raw, allow_abbrev=False)  # fmt: skip
        module.arguments(sub)
        sub.set_defaults(run=module.run)
    return top
