"""What is wrong with a configuration, in one sentence: the parser's innermost reason, and the nearest names.

jsonargparse reports every alternative of every union it tried; a user needs the one line that names their mistake.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import yaml

from vaebench.configuration.discovery import DISCOVERED as FILES
from vaebench.configuration.discovery import names
from vaebench.configuration.mistakes import mistake, shown
from vaebench.configuration.part_kinds import KINDS, OURS, learning_key
from vaebench.configuration.parts import (
    index,
    kind_of,
    located,
    misplaced,
    of_kind,
    part_arguments,
    part_at,
    plain_name,
    torch_parts,
)
from vaebench.configuration.shipped import shipped_names, unknown_file
from vaebench.errors import UserError, out_of_memory, unknown
from vaebench.ranges import require_ranges

if TYPE_CHECKING:
    pass

SECTIONS = ["config", "data", "model", "seed_everything", "trainer", "optimizer", "lr_scheduler"]
# A setting of a part that has no class yet: the part's key and the setting's.
CLASSLESS = r"\"([\w.]+)\":(?:(?!Parser key).)*must include a class_path.*?NestedArg\(key='(\w+)"
# What a constructor raises where its arguments do not fit; all else is a defect of the code, with its traceback.
TRAINER = "lightning.Trainer"
BASES = ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler")
# A class that lacks a setting which it has no default of.
NEEDED = r"given class_path '(?:\w+\.)*(\w+)':\s+(?:the )?following arguments are required: ([^\n]+)"
# A class path or name that is no class, or of another kind than the setting.
UNRESOLVED = (
    r"module '[^']*' has no attribute '(\w+)'|No module named '([\w.]+)'|dot import path string: ([\w.]*)"
    r"|Expected '([\w.]+)' to be a|Import path does not correspond"
)
UNFIT = (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError)


def require_kinds(config: Any) -> None:
    """Refuses a prior in a posterior's place, and the like, which would end in a traceback while it is built.

    Args:
        config: a class with its settings.

    Raises:
        UserError: a part of the suite stands where another kind is expected.
    """
    if wrong := misplaced(config):
        kind, part = wrong
        raise _unknown_part(kind, part.name)


def require_tables(config: Any, place: str) -> None:
    """Refuses a class whose path is no text, or whose settings are no table or stand beside the path.

    Also a part's table without a class, for which the parser takes the default.

    Args:
        config: a class with its settings, and perhaps others in them.
        place: what errors call it, 'model'.

    Raises:
        UserError: there is one.
    """
    if not isinstance(config, Mapping):
        return
    inner = {key: value for key, value in config.items() if key != "init_args"}
    if "class_path" in config:
        path, settings = config["class_path"], config.get("init_args", {})
        if not isinstance(path, str):
            raise UserError(f"{place}.class_path is {path!r}: expected the name or path of a class; give one")
        if not isinstance(settings, Mapping):
            raise UserError(
                f"{place}.init_args is {settings!r}, where a table of settings of {path.rpartition('.')[2]} is "
                "expected, such as {name: value}; give one, or leave it out"
            )
        if beside := sorted(inner.keys() - {"class_path", "dict_kwargs"}):
            name = path.rpartition(".")[2]
            raise UserError(
                f"{place} has '{beside[0]}' beside its class_path: expected settings of {name} in its init_args; move "
                "it there"
            )
        inner |= settings
    for key, value in inner.items():
        if key in part_arguments() and isinstance(value, Mapping) and "class_path" not in value:
            raise UserError(
                f"{place}.{key} is {shown(str(value))}, which names no class: expected a table such as {{class_path: "
                "NAME, init_args: {…}}, or a name; give one, or leave it out"
            )
        require_tables(value, f"{place}.{key}")


@contextmanager
def explained() -> Iterator[None]:
    """Turns what jsonargparse raises inside the block into a UserError, and what a constructor raises that it runs.

    A UserError inside keeps its own words.
    """
    try:
        yield
    except UnicodeDecodeError:
        raise UserError("a file that --config names is no text: expected YAML; give a configuration file") from None
    except Exception as error:
        inner: BaseException = error
        while not isinstance(inner, UserError) and (cause := inner.__cause__ or inner.__context__):
            inner = cause
        if isinstance(inner, UserError):
            raise inner from None
        if isinstance(error, ArgumentError):
            raise _explanation(str(error)) from None
        *_, (frame, _) = walk_tb(error.__traceback__)
        if frame.f_code.co_name == "indent_text":  # where the parser repeats the reason; MemoryError has none
            raise _unfit(str(error), MemoryError()) from error
        owner = str(frame.f_globals.get("__name__")).partition(".")[0]
        if owner in ("jsonargparse", "yaml") and isinstance(error, AttributeError | LookupError):  # its own defects
            raise UserError("a setting or --config holds no YAML that can be read; mend what was given last") from error
        if isinstance(inner, ModuleNotFoundError):
            raise _uninstalled(str(error), str(inner)) from error
        if isinstance(inner, UNFIT) and not isinstance(inner, NotImplementedError):
            raise _unfit(str(error), inner) from error
        raise


def _files(args: Iterable[str]) -> Iterator[Path]:
    """The files that `--config` names; it takes the text of one too."""
    flag = ""
    for arg in args:
        option, _, value = arg.partition("=")
        name = value if option == "--config" else arg if flag == "--config" else ""
        flag = arg
        if name and len(name) < 4096 and "\n" not in name and Path(name).is_file():
            yield Path(name)


def _unfit(report: str, error: BaseException) -> UserError:
    """Why a model or data set cannot be built: what its constructor raised."""
    match = re.search(r"class_path='([\w.]+)'", report)
    what = match[1].rpartition(".")[2] if match else "the model or data set"
    if out_of_memory(error):
        return UserError(f"{what} needs more memory than there is: expected a smaller model; lower its sizes")
    pythons = isinstance(error, TypeError | LookupError)  # whose words are about the code
    reason = "" if pythons or not str(error) else f" ({shown(str(error))})"
    return UserError(
        f"{what} cannot be built from these settings{reason}: expected values that fit together; mend those that are "
        "not the defaults"
    )


def _uninstalled(report: str, reason: str) -> UserError:
    """Why a class cannot be built whose package is not installed, as a logger of Lightning's."""
    found = re.search(r"class_path='([\w.]+)'", report)
    what = found[1].rpartition(".")[2] if found else "what was asked for"
    named = re.search(r"(?:Requirement|module named) '([\w-]+)|`pip install (?:-U )?'?([\w-]+)", reason)
    package = next(filter(None, named.groups())) if named else None
    if package is None:
        return UserError(f"{what} needs a package that is not installed ({shown(reason)}); install it, or leave it out")
    return UserError(f"{what} needs the package '{package}', which is not installed; `pip install {package}` does that")


def require_values(config: Mapping[str, Any], owner: str = "", place: str = "") -> None:
    """Refuses null where a setting takes none, numbers that are not finite or outside their ranges, unprintable text.

    jsonargparse takes null for every setting, and a record cannot hold what is not finite or cannot be printed.

    Args:
        config: a table of settings.
        owner: path of the class that they are given to; '' for none, as for the sections.
        place: the table's key.

    Raises:
        UserError: a value that cannot be.
    """
    parameters = _parameters(owner) if owner else {}
    if part := part_at(owner):
        require_ranges(_class(part.path), config, f"{place}.")
    for name, value in config.items():
        key, taken = f"{place}.{name}".lstrip("."), parameters.get(name)
        if value is None and taken and taken.default is not None and "None" not in str(taken.annotation):
            raise UserError(f"'{key}' cannot be null: expected a value, or nothing; give one, or leave it out")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"'{key}' cannot be {value}: expected a finite number; mend that value")
        if isinstance(value, str) and not value.isprintable():
            raise UserError(f"'{key}' cannot be {value!r}: expected text that can be printed; mend that value")
        if key == "trainer" and not (isinstance(value, Mapping) and "callbacks" in value):  # a setting below no table
            raise UserError("'trainer' is no table: expected settings such as {max_epochs: 100}; mend that value")
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping) and isinstance(inner.get("class_path"), str):
                require_values(inner.get("init_args") or {}, inner["class_path"], key)
            elif isinstance(inner, Mapping):
                require_values(inner, TRAINER if key == "trainer" else "", key)


def _kind(option: str) -> str:
    """What a name stands for after `--model.prior`, also with `.help` or `.class_path`; '' where it is no part's."""
    keys = [key for key in option.lstrip("-").split(".") if key not in ("help", "class_path")]
    return kind_of(keys[-1]) if keys else ""


def _located(value: str, kind: str) -> str:
    """A value with class paths for names: a name, or a table as JSON or YAML has it in one line."""
    if not value.lstrip().startswith("{"):
        return str(located(value, kind))
    try:
        table = yaml.safe_load(value)
        return json.dumps(replaced) if (replaced := located(table, kind)) != table else value
    except (yaml.YAMLError, TypeError, ValueError, RecursionError):
        return value  # the parser says what is wrong with it


def _explanation(message: str) -> UserError:
    if match := re.search(r"unrecognized arguments: (?:--)?([^\s=]+)", message):
        return _unknown_key(match[1])
    if match := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return _unknown_key(f"{match[1]}.{match[2]}")
    if match := re.search(r"Option '([^']+)' is not accepted", message):
        owners = re.findall(r"class_path=?\s?'([^']+)'", message[match.end() :].partition("Given value")[0])
        outer = re.findall(r"class_path '([^']+)'", message[: match.start()])
        owner = (owners[:1] or outer[-1:] or [""])[0]
        if owner in BASES:
            key = mistake(message)
            return _classless(key.key if key else "optimizer", match[1])
        if match[1] == "lr" and owner.startswith("torch.optim."):
            return UserError(
                f"'lr' is no setting of {owner.rpartition('.')[2]} here: expected model.lr, and model.lr_<group> for a "
                "parameter group of its own; set that"
            )
        known = _parameters(owner) if owner else SECTIONS
        return unknown("key", match[1], known, f"It was given to {owner}." if owner else "")
    if match := re.search(r"(?:File does not exist: |Path is not a file: |Unexpected config: )'?(.*?)'?$", message):
        return _unknown_file(match[1])
    if match := re.search(NEEDED, message):
        return UserError(f"{match[1]} needs {match[2]}: expected a value of it; give it below the class's own key")
    if match := re.search(r"following arguments are required: (.+)", message):
        return UserError(
            f"nothing says which {match[1]} to use: expected --config FILE or --{match[1].split(',')[0]} NAME; "
            "`vaebench families` and `vaebench datasets` list the names"
        )
    if match := re.search(CLASSLESS, message, re.S):
        return _classless(f"model.{match[1]}", match[2])
    wrong = mistake(message)
    if (match := re.search(UNRESOLVED, message)) and not (wrong and wrong.key.startswith("trainer")):
        return _unknown_class(next(filter(None, match.groups()), ""), message)
    if wrong and (kind := learning_key(wrong.key)) and "Multiple subclasses" in message:  # torch's and Lightning's
        return _unknown_part(kind, wrong.value)
    if wrong:
        return UserError(str(wrong))
    reason = shown(re.sub(r'"<unicode string>", ', "", message.removeprefix("Problems parsing config:")))
    return UserError(f"the settings cannot be read ({reason}): expected YAML; mend what --config or a setting holds")


def _classless(key: str, setting: str) -> UserError:
    return UserError(
        f"'{key.removeprefix('model.')}' has no class yet to which '{setting}' could be given: expected the class "
        f"first, as in --{key} CLASS; name it before its settings"
    )


def _unknown_file(name: str) -> UserError:
    path, here = Path(name), Path.cwd()
    name = str(path.relative_to(here) if path.is_relative_to(here) else path)  # as it was given, and not made absolute
    folder = Path(name).parent
    near = [str(folder / path.name) for path in sorted(folder.glob("*.yaml"))] if folder.is_dir() else []
    return unknown_file(shown(name), "configuration file", near)


def _unknown_key(key: str) -> UserError:
    section, _, rest = key.partition(".")
    if section == "trainer" and rest:
        return unknown("key", key, [f"trainer.{name}" for name in _parameters(TRAINER)])
    return unknown("key", shown(key), SECTIONS, "Settings of parts go below them, such as model.latent.")


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _parameters(path: str) -> dict[str, inspect.Parameter]:
    """All constructor arguments of a class, its parents' included."""
    cls = _class(path)
    parameters: dict[str, inspect.Parameter] = {}
    for parent in cls.__mro__ if inspect.isclass(cls) else ():
        own = vars(parent).get("__init__")
        if own and parent.__module__.startswith(("vaebench", "lightning", "torch.optim")):
            parameters = {**inspect.signature(own).parameters, **parameters}
    ours = OURS if part_at(path) in torch_parts() else frozenset()
    given = {"self", "parts", "data", "kwargs", "args", *ours}
    return {name: parameter for name, parameter in parameters.items() if name not in given}


def _unknown_class(name: str, message: str) -> UserError:
    """The nearest family, data set or part for a name or a class path that is none, or of another kind."""
    module = re.search(r"module '([^']+)' has no", message)
    given = re.search(r"Expected a path but (\S+) either", message)
    path = (given[1] if given else f"{module[1]}.{name}" if module else name).rstrip(".")
    keys = reversed(re.findall(r'Parser key "(?:[\w.]+\.)?(\w+)":', message))
    folder = f"{path}.".split(".")[1] if path.startswith("vaebench.") else ""
    by_folder = (kind for kind, about in KINDS.items() if about.folder == folder)
    kind = next((part_arguments()[key] for key in keys if key in part_arguments()), None) or next(by_folder, None)
    if kind is None:
        return unknown("class", path, [part.name for part in index() if part.choosable], "`vaebench parts` lists them.")
    if kind in FILES:
        return _unknown_part(kind, path.removeprefix(f"vaebench.{folder}.").split(".")[0])
    return _unknown_part(kind, path.rpartition(".")[2] if folder else path)


def _unknown_part(kind: str, name: str) -> UserError:
    """A name that is none of a kind, with the nearest ones; or of another kind, which is then said."""
    command = {"family": "families", "data set": "datasets"}.get(kind, f"parts {kind}")
    known = names(kind) if kind in FILES else list(of_kind(kind))
    known += shipped_names("family") if kind == "family" else []
    others = [part.kind for part in index() if part.choosable and part.kind != kind and plain_name(name) in part.names]
    remedy = f"`vaebench {command}` lists them."
    return unknown(kind, name, known, f"It is a {others[0]}. {remedy}" if others else remedy)
