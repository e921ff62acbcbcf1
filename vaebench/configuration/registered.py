"""Classes, modules and files that the user has registered, and that others' files may name."""

from __future__ import annotations

import inspect
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from vaebench.configuration import own, parts
from vaebench.errors import UserError

LIBRARY = frozenset(
    {"vaebench.measures.DataSpec"}
    | {f"lightning.pytorch.callbacks.{name}" for name in ("EarlyStopping", "early_stopping.EarlyStopping", "Timer")}
    | {f"torch.nn.{name}" for name in ("ELU", "GELU", "Identity", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softplus",
                                       "Tanh")}
    | {part.path for part in parts.torch_parts()}
)  # fmt: skip
"""Other classes that configurations may name, none of which writes, calls or imports its arguments."""


WORD = re.compile(
    r"[\w+\- ]{0,100}"  # binary, bf16-mixed
    r"|(train|val)/[\w.+\-]{1,100}"  # what a callback monitors
    r"|[+-]?[\d.]{1,30}(e[+-]?\d{1,5})?"  # a number as text
    r"|\d{1,4}(:\d{1,4}){1,3}"  # a time
)


REGISTERED: set[str] = set()  # names and paths that the user has registered in this process
MOVED: list[str] = []  # where the images of a data set of the user's own are now


def trust(*names: str | type) -> None:
    """Registers classes, modules or files that configurations in checkpoints, records and cards may name.

    Args:
        names: a class or its path ('mypkg.MyVAE'), a module ('mypkg', with all classes and functions defined in it or
            below it), or a file or folder that configurations may name ('/data/faces.npz').

    Raises:
        UserError: a name that is none of these.
    """
    for name in names:
        if isinstance(name, type):
            name = f"{name.__module__}.{name.__qualname__}"
        if not isinstance(name, str) or not name.strip():
            raise UserError(
                f"{name!r} cannot be trusted: expected a class such as mypkg.MyVAE, a module, or a file; name one"
            )
        own.reach(name)
        REGISTERED.add(name)


def move_data(root: str) -> None:
    """Looks for the images of a data set of the user's own at `root`, whatever a configuration in a file says."""
    trust(root)
    MOVED.append(root)


def moved() -> str | None:
    """The last argument of `move_data`, for another process of the same user."""
    return MOVED[-1] if MOVED else None


def trusted() -> tuple[str, ...]:
    """All registered names, for another process of the same user."""
    return tuple(sorted(REGISTERED))


def is_registered(name: str) -> bool:
    """Whether the user has registered exactly this name."""
    return name in REGISTERED


def remember(config: Any) -> None:
    """Registers the names in the user's own configuration, so that this process can load its checkpoints."""
    REGISTERED.update(foreign(config))


def foreign(config: Any) -> list[str]:
    """The strings of a configuration that are neither plain words nor names of the suite, and so need `--trust`."""
    texts = dict.fromkeys(own.texts_in(config))
    return [
        text for text in texts if not WORD.fullmatch(text) and not text.startswith("vaebench.") and text not in LIBRARY
    ]


def is_dotted(text: str) -> bool:
    return "." in text and all(part.isidentifier() for part in text.split("."))


def in_registered_folder(text: str) -> bool:
    """Whether a string is the path of a file in a registered folder."""
    if "\0" in text or "://" in text or len(text) > 4096:
        return False
    path = Path(text).expanduser()
    return any(
        os.sep in name and path.resolve().is_relative_to(Path(name).expanduser().resolve()) for name in REGISTERED
    )


def in_registered_module(path: str) -> Any:
    """The class or function at a path, if it is defined in or below a registered module; otherwise None."""
    module, _, name = path.rpartition(".")
    if not is_dotted(path):
        return None
    for known in REGISTERED:
        if is_dotted(f"x.{known}") and (module == known or module.startswith(f"{known}.")):
            member = module_member(module, name)
            if (inspect.isclass(member) or inspect.isfunction(member)) and (
                member.__module__ == known or member.__module__.startswith(f"{known}.")
            ):
                return member
    return None


def module_member(module: str, name: str) -> Any:
    try:
        return vars(import_module(module)).get(name)
    except ImportError:
        return None
