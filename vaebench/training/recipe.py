"""Optimisers and schedulers in a run's configuration: `--optimizer AdamW`, `--lr_scheduler_critic StepLR`.

A section applies to every parameter group, or with a suffix to the group of that name. The learning rate belongs to the
family, `model.lr` and `model.lr_<group>`, so that sweeps and populations may vary it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vaebench.configuration.part_kinds import OURS, learning_key
from vaebench.configuration.parts import of_kind, part_at
from vaebench.configuration.source import Source
from vaebench.core import Family
from vaebench.core.rules import Recipe
from vaebench.errors import UserError, unknown

BASES = {"optimizer": Optimizer, "lr_scheduler": LRScheduler}


def sections(args: Sequence[str], files: Iterable[Path]) -> list[str]:
    """The sections of optimisers and schedulers of a run: the two general ones, and those in its arguments.

    Args:
        args: command-line arguments.
        files: configuration files.
    """
    keys = [arg[2:].partition("=")[0].partition(".")[0] for arg in args if arg.startswith("--")]
    for file in files:
        keys += [str(key) for key in Source(file, "configuration file").content]
    return sorted({*BASES, *(key for key in keys if learning_key(key))})


def add_sections(parser: LightningArgumentParser, keys: Iterable[str]) -> None:
    """Adds the sections to a parser, with default None."""
    for key in keys:
        parser.add_subclass_arguments(
            BASES[learning_key(key)], key, instantiate=False, fail_untyped=False, required=False, skip=set(OURS)
        )


def require_sections(config: Any, keys: Iterable[str]) -> None:
    """Refuses optimisers and schedulers that need more than gradients or the number of an epoch.

    Removes a section of Adam with its default options, which is the default.

    Args:
        config: a parsed configuration, which is changed.
        keys: of its sections.

    Raises:
        UserError: there is one.
    """
    for key in keys:
        if (section := config[key]) is None:
            continue
        kind = learning_key(key)
        module, _, name = section.class_path.rpartition(".")
        if (part := part_at(section.class_path)) is not None:
            section.class_path = part.path
        elif module.partition(".")[0] in ("torch", "lightning"):
            raise unknown(kind, name, of_kind(kind), f"`vaebench parts {kind}` lists what a run of the suite takes.")
        if key == "optimizer" and section.class_path == "torch.optim.Adam" and not _changed(section):
            config[key] = None


def _changed(section: Any) -> bool:
    """Whether a class has any setting other than its defaults."""
    defaults = inspect.signature(_class(section.class_path)).parameters
    return any(value != defaults[name].default for name, value in section.get("init_args", {}).items())


def plain_sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """The non-empty sections of a plain configuration, with floats wherever a setting takes fractions."""
    plain = {}
    for key, section in config.items():
        if learning_key(key) and section is not None:
            known = inspect.signature(_class(section["class_path"])).parameters
            plain[key] = {**section, "init_args": {
                name: float(value) if type(value) is int and "float" in str(known[name].annotation) else value
                for name, value in section.get("init_args", {}).items() if name in known
            }}  # fmt: skip
    return plain


def give_recipe(model: Family, config: Mapping[str, Any]) -> None:
    """Sets a model's optimisers and schedulers from a parsed configuration.

    Raises:
        UserError: one is for a group that the family does not have, or cannot be built.
    """
    chosen: dict[str, dict[str, Any]] = {kind: {} for kind in BASES}
    for key, section in config.items():
        if (kind := learning_key(key)) and section is not None:
            group = key.removeprefix(kind).removeprefix("_")
            if group and group not in model.groups():
                named = [f"{kind}_{name}" for name in model.groups()]
                raise unknown("key", key, named, f"Its end names a parameter group of {type(model).__name__}.")
            cls: Callable[..., Any] = _class(section.class_path)
            name, settings = section.class_path.rpartition(".")[2], dict(section.get("init_args", {}))
            if "fused" in inspect.signature(cls).parameters:
                settings["fused"] = True
            chosen[kind][group] = partial(cls, **settings)
            try:
                made = {kind: {"": chosen[kind][group]}}
                Recipe(made.get("optimizer", {}), made.get("lr_scheduler", {})).rules("", 1e-3, None, None).options(1)
            except UserError:
                raise
            except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
                raise UserError(
                    f"{key} {name} cannot be built from these settings ({str(error).rstrip('.')}): expected "
                    "values that fit together; mend them"
                ) from error
    model.recipe = Recipe(chosen["optimizer"], chosen["lr_scheduler"])


def _class(path: str) -> type[Any]:
    module, _, name = path.rpartition(".")
    return vars(import_module(module))[name]
