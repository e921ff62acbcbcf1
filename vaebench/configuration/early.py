"""Mistakes in the arguments of a training that can be told from the source, before torch is imported.

What is not certain here (settings in files, classes of the user's own, settings of nested parts) is left to the parser,
which says the same of the same mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from vaebench.configuration.class_source import ClassSource, classes_in
from vaebench.configuration.explain import _kind, _unknown_part
from vaebench.configuration.mistakes import WORDS, Mistake, shown
from vaebench.configuration.options import COUNTED, PASSED, REFUSED
from vaebench.configuration.part_kinds import KINDS
from vaebench.configuration.parts import PACKAGE, find_part, part_at
from vaebench.configuration.shipped import combination
from vaebench.errors import UserError, unknown

BASES = {"family": ("core/family", "Family"), "data set": ("data/base", "ImageData")}  # with constructors of their own
TRAINER = COUNTED | PASSED | REFUSED.keys()
NAME = re.compile(r"[A-Za-z_][\w-]*")
OTHERWISE = ("null", "true", "false")  # in the place of a name
GIVEN = ("self", "data")


def require_known(args: Sequence[str]) -> None:
    """Refuses a name of a part that is none, and a setting of a family, data set or the trainer that is none.

    Args:
        args: as typed after `vaebench fit`.

    Raises:
        UserError: there is such a mistake.
    """
    pairs = list(_pairs(args))
    for option, value in pairs:
        kind = _kind(option)
        if kind and NAME.fullmatch(value) and value.lower() not in OTHERWISE and not find_part(kind, value):
            if kind == "family" and combination(value) is not None:
                continue
            raise _unknown_part(kind, value)
    given = dict(pairs)
    for section, kind in (("model", "family"), ("data", "data set")):
        part = find_part(kind, given.get(f"--{section}", ""))
        if part is not None and (known := arguments_of(kind, part.name)):
            _require_settings(section, part.path, known, pairs)
    for option, _ in pairs:
        if option.startswith("--trainer.") and option.split(".")[1] not in TRAINER:
            raise unknown("key", option[2:], [f"trainer.{name}" for name in TRAINER])


def _require_settings(section: str, owner: str, known: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> None:
    for option, value in pairs:
        prefix, _, rest = option.partition(".")
        if prefix != f"--{section}" or not rest:
            continue
        key = rest.split(".")[0]
        if key in ("help", "class_path", "init_args", "dict_kwargs"):
            continue
        if key not in known:
            raise unknown("key", key, known, f"It was given to {owner}.")
        if rest == key and (expected := _unfit(known[key], value)):
            raise UserError(str(Mistake(f"{section}.{key}", shown(value), expected)))


def arguments_of(kind: str, name: str) -> dict[str, str]:
    """`arguments` by any name of a class; none where it is unknown, or not the suite's."""
    part = find_part(kind, name) if name else None
    return arguments(kind, part.name) if part is not None and part_at(part.path) == part else {}


def arguments(kind: str, name: str) -> dict[str, str]:
    """The constructor's arguments of a family or data set of the suite, and their annotations, from the source.

    >>> arguments("family", "BetaVAE")["beta"], arguments("family", "BetaVAE")["latent"]
    ('float', 'int')
    """
    classes = {**classes_in(PACKAGE, BASES[kind][0]), **classes_in(PACKAGE, KINDS[kind].folder)}
    found: dict[str, str] = {}
    while name in classes:
        source = classes[name]
        found = {**dict(source.arguments), **found}
        if not _passes_on(source):
            break
        name = source.bases[0] if source.bases else ""
    return {key: annotation for key, annotation in found.items() if key not in GIVEN}


def _passes_on(source: ClassSource) -> bool:
    """Whether a class has its parent's arguments too: it takes others, or has no constructor of its own."""
    constructor = source.methods.get("__init__")
    return constructor is None or constructor.args.kwarg is not None


def _unfit(annotation: str, value: str) -> str:
    """What is expected in the place of a value that is no number or truth value; '' where it may be right."""
    words = [word.strip() for word in annotation.split("|")]
    kinds = [word for word in words if word != "None"]
    if len(kinds) != 1 or kinds[0] not in ("int", "float", "bool"):
        return ""
    try:
        read: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        return ""
    if read is None or isinstance(read, Mapping | list):
        return ""  # the parser has words for it
    right = {
        "int": _number(value) and float(value).is_integer(),
        "float": _number(value),
        "bool": isinstance(read, bool),
    }
    if right[kinds[0]]:
        return ""
    return " or ".join([WORDS[kinds[0]], *(["null"] if "None" in words else [])])


def _number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _pairs(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options and their values, '' where there is none."""
    rest = list(args)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if not option.startswith("--"):
            continue
        if not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        yield option, value
