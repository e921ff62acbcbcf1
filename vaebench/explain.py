"""What is wrong with a configuration, in one sentence: the parser's innermost reason, and the nearest names.

jsonargparse reports every alternative of every union it tried; a user needs the one line that names their mistake.
"""

from __future__ import annotations

import inspect
import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.discovery import KINDS, find, names
from vaebench.errors import UserError, unknown
from vaebench.gate import remember

if TYPE_CHECKING:
    from vaebench.training import Experiment

SECTIONS = ["config", "data", "model", "seed_everything", "trainer"]
WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "NoneType": "null"}
# A setting of a part that has no class yet: the part's key and the setting's.
CLASSLESS = r"\"([\w.]+)\":(?:(?!Parser key).)*must include a class_path.*?NestedArg\(key='(\w+)"
# A value that is none of several types, innermost in the parser's report: its key, the types and the value.
SEVERAL = (
    r'Parser key "([\w.]+)":\s+Does not validate against any of the Union subtypes\s+Subtypes: [^\n]+\s+Errors:'
    r"((?:\s+- Expected a [^\n]+)+)\s+Given value type: [^\n]+\s+Given value: ([^\n>]+)"
)
PARTS = ["posteriors", "priors", "likelihoods", "networks", "schedules"]


def experiment(args: list[str]) -> Experiment:
    """`training.Experiment(args)`, with families and data sets by their short names and errors in one sentence.

    Raises:
        UserError: the arguments are not valid.
    """
    from vaebench.training import Experiment

    with explained():
        job = Experiment(list(_expanded(args)))
    remember(job.config.as_dict())  # the user's own words: what it names may be loaded again
    return job


@contextmanager
def explained() -> Iterator[None]:
    """Turns what jsonargparse raises inside the block into a UserError; a UserError inside keeps its own words."""
    try:
        yield
    except UnicodeDecodeError:
        raise UserError("a file that --config names is no text: expected YAML; give a configuration file") from None
    except (ArgumentError, ValueError, TypeError) as error:
        inner: BaseException | None = error
        while inner is not None:
            if isinstance(inner, UserError):
                raise inner from None
            inner = inner.__cause__ or inner.__context__
        if not isinstance(error, ArgumentError):
            raise
        raise _explanation(str(error)) from None


def _expanded(args: Iterable[str]) -> Iterator[str]:
    """Replaces the names in `--model beta_vae`, `--data digits` and their `.help` by the paths of their classes."""
    flag = ""
    for arg in args:
        option, equals, value = arg.partition("=")
        kind = {"--model": "family", "--data": "data set"}.get((option if equals else flag).removesuffix(".help"))
        name = value if equals else arg
        flag = arg
        if kind and name in names(kind):
            cls = find(kind, name)
            path = f"{cls.__module__}.{cls.__qualname__}"
            yield f"{option}={path}" if equals else path
        else:
            yield arg


def _explanation(message: str) -> UserError:
    if found := re.search(r"unrecognized arguments: (?:--)?([^\s=]+)", message):
        return _unknown_key(found[1])
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return _unknown_key(f"{found[1]}.{found[2]}")
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        owners = re.findall(r"class_path=?\s?'([^']+)'", message[found.end() :].partition("Given value")[0])
        outer = re.findall(r"class_path '([^']+)'", message[: found.start()])
        owner = (owners[:1] or outer[-1:] or [""])[0]
        return unknown("key", found[1], _arguments(owner), f"It was given to {owner}." if owner else "")
    if found := re.search(r"File does not exist: '([^']+)'", message):
        folder = Path(found[1]).parent
        near = [str(folder / p.name) for p in sorted(folder.glob("*.yaml"))] if folder.is_dir() else []
        return unknown("configuration file", found[1], near)
    if found := re.search(
        r"has no attribute '(\w+)'|No module named '([\w.]+)'|dot import path string: (\S*)", message
    ):
        return _unknown_class(next(filter(None, found.groups()), ""), message)
    if found := re.search(r"following arguments are required: (.+)", message):
        return UserError(
            f"nothing says which {found[1]} to use: expected --config FILE or --{found[1].split(',')[0]} NAME; "
            "`vaebench families` and `vaebench datasets` list the names"
        )
    if found := re.search(CLASSLESS, message, re.S):
        return UserError(
            f"'{found[1]}' has no class yet to which '{found[2]}' could be given: expected the class first, as in "
            f"--model.{found[1]} CLASS; name it before its settings"
        )
    if found := re.search(r'Parser key "([\w.]+)":\s+Expected ([^\n]+?)\. Got value: ([^\n]+)', message):
        return UserError(f"'{found[1]}' cannot be {found[3]}: expected {_words(found[2])}; mend that value")
    if found := re.search(SEVERAL, message):
        return UserError(f"'{found[1]}' cannot be {found[3]}: expected {_words(found[2])}; mend that value")
    return UserError(" ".join(line.strip() for line in message.splitlines() if line.strip())[:400])


def _words(types: str) -> str:
    """What jsonargparse expected, in words: "<class 'int'> … <class 'NoneType'>" is "a whole number or null"."""
    names = re.findall(r"<class '(?:\w+\.)*(\w+)'>", types)
    return " or ".join(WORDS.get(name, name) for name in names) or types


def _unknown_key(key: str) -> UserError:
    section, _, rest = key.partition(".")
    if section == "trainer" and rest:
        from lightning import Trainer

        return unknown("key", key, [f"trainer.{name}" for name in inspect.signature(Trainer.__init__).parameters])
    return unknown("key", key, SECTIONS, "Settings of parts go below them, such as model.latent.")


def _arguments(path: str) -> list[str]:
    """All constructor arguments of a class, its parents' included; the sections of a configuration for no class."""
    if not path:
        return SECTIONS
    module, _, name = path.rpartition(".")
    cls = getattr(import_module(module), name)
    found: dict[str, None] = {}
    for parent in cls.__mro__:
        if parent.__module__.startswith("vaebench") and "__init__" in vars(parent):
            found |= dict.fromkeys(inspect.signature(parent.__init__).parameters)
    return [name for name in found if name not in ("self", "parts", "data", "kwargs", "args")]


def _unknown_class(name: str, message: str) -> UserError:
    """The nearest family, data set or part for a class path that does not resolve."""
    module = re.search(r"module '([^']+)' has no", message)
    path = f"{module[1]}.{name}" if module else name
    key = next(iter(re.findall(r'Parser key "(\w+)":', message)[-1:]), "")
    for kind, section in (("family", "model"), ("data set", "data")):
        folder = f"vaebench.{KINDS[kind][0]}"
        if key == section or path.startswith(folder):
            short = path.removeprefix(folder).strip(".").split(".")[0]
            command = {"family": "families", "data set": "datasets"}[kind]
            return unknown(kind, short, names(kind), f"`vaebench {command}` lists them.")
    parts = [
        f"vaebench.{part}.{cls}"
        for part in [part for part in PARTS if part.startswith(key[:5])] or PARTS
        for cls, member in inspect.getmembers(import_module(f"vaebench.{part}"), inspect.isclass)
        if member.__module__ == f"vaebench.{part}" and not inspect.isabstract(member)
    ]
    return unknown("class", name, parts if "." in name else [part.rpartition(".")[2] for part in parts])
