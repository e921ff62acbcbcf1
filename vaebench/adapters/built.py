"""A model that a function of the user's own builds, in a file or a module that they have named."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from vaebench.adapters.foreign import Foreign
from vaebench.adapters.parts import Autoencoder, Parts
from vaebench.configuration import own
from vaebench.errors import UserError
from vaebench.measures import DataSpec

NEEDED, PAIR = ("posterior", "prior", "likelihood"), ("encoder", "decoder")
GIVES = (
    "a model with posterior(x), prior() and likelihood(z), a table with these three, or one with encoder and decoder "
    "(docs/your-model.md)"
)


def build(text: str, spec: DataSpec) -> Foreign:
    """The model of 'FILE.py:FUNCTION' or 'MODULE:FUNCTION', whose code is run.

    The function takes nothing, or the `DataSpec` of the images.

    Raises:
        UserError: there is no such file or function, it fails, or it gives no model.
    """
    place, _, name = text.rpartition(":")
    if not place or not name.isidentifier():
        raise UserError(f"--adapter is '{text}': expected FILE.py:FUNCTION; say which function builds the model")
    module = own.include(place) if place.endswith(".py") else place
    function = own.require_class(f"{module}.{name}")
    if not callable(function):
        raise UserError(f"'{text}' is a {type(function).__name__}: expected a function that gives {GIVES}")
    path = f"{module}.{name}"
    return Foreign(as_model(_called(text, function, spec), text), "module", path, sources=own.sources(path))


def as_model(made: Any, what: str) -> Any:
    """A model of the three parts, from what a function of the user's gives.

    Args:
        made: a model, a table of its three parts, or one of the arguments of `Autoencoder`.
        what: who gave it, for the error.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(made, Mapping):
        for keys, kind in ((NEEDED, Parts), (PAIR, Autoencoder)):
            known = set(inspect.signature(kind).parameters)
            if set(keys) <= set(made) <= known:
                return kind(**made)
        raise UserError(f"'{what}' gives a table of {', '.join(map(str, made)) or 'nothing'}: expected {GIVES}")
    missing = [name for name in NEEDED if not callable(getattr(made, name, None))]  # whatever a user's class has
    if missing:
        hint = ""
        if isinstance(made, nn.Module) and all(callable(getattr(made, name, None)) for name in ("encode", "decode")):
            hint = "; of this one perhaps {'encoder': model.encode, 'decoder': model.decode}"
        raise UserError(f"'{what}' gives a {type(made).__name__} without {', '.join(missing)}: expected {GIVES}{hint}")
    return made


def _called(text: str, function: Callable[..., Any], spec: DataSpec) -> Any:
    takes = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    try:
        return function(spec) if takes else function()
    except UserError:
        raise
    except Exception as error:  # whatever the user's own code raises
        trace = error.__traceback__
        while (
            trace is not None
            and trace.tb_next is not None
            and "vaebench" not in trace.tb_next.tb_frame.f_code.co_filename
        ):
            trace = trace.tb_next
        line = f", in line {trace.tb_lineno} of '{trace.tb_frame.f_code.co_filename}'" if trace is not None else ""
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"'{text}' fails ({type(error).__name__}: {reason}{line}): expected {GIVES}; mend it"
        ) from error
