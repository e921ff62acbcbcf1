"""Errors that are the user's to mend: one sentence with what, where, what was expected and what to do.

`Unavailable` is none of them: a density, a closed form or a figure that does not exist, which ends no evaluation.
"""

from __future__ import annotations

import errno
import pickle
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

# What torch.load and a look into its result raise where a checkpoint is damaged, depending on where it was cut.
UNREADABLE = (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
              AssertionError, struct.error, pickle.UnpicklingError)  # fmt: skip


class UserError(ValueError):
    """A mistake in the input. The command line prints it without a traceback and exits with `code`."""

    code = 2


class Diverged(UserError):  # noqa: N818
    """Training ended in numbers that are not finite; what usually helps follows the given sentence."""

    code = 3

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}; a lower model.lr, a limit on gradients (model.clip 100) or a warm-up of the objective's weight "
            "usually helps"
        )


class Unavailable(Exception):  # noqa: N818
    """What a model, its data or a measurement does not have: `str` of it is the reason, a clause without a full stop.

    A figure that needs it is "unavailable: reason". torch.distributions and adapters raise NotImplementedError where
    something does not exist, and torch the same class for an operation without a kernel; `absence` separates the two.
    """


# Messages of torch about an operation without a kernel for a type of number, or on a device.
KERNELS = (
    r"\"(?P<operation>\w+)\" not implemented for '?(?P<precision>\w+)",
    r"(?P<operation>[\w.]+): Low precision dtypes not supported\. Got (?P<precision>\w+)",
    r"Could not run '(?P<operation>[\w:.]+)' with arguments from the '(?P<device>\w+)' backend",
    r"The operator '(?P<operation>[\w:.]+)' is not currently implemented for the (?P<device>\w+) device",
)
WORDLESS = r"No KL\(p \|\| q\)|$"  # what torch.distributions says where it names no reason


@contextmanager
def require_kernels() -> Iterator[None]:
    """Refuses, by a sentence, a precision or a device on which torch lacks an operation that the block calls.

    Raises:
        UserError: it lacks one.
    """
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        if (missing := _missing_kernel(error)) is None:
            raise
        operation, precision = missing["operation"], missing.groupdict().get("precision")
        if precision:
            raise UserError(
                f"torch has no operation '{operation}' for numbers of type {precision}: expected a precision that "
                "every part of the model supports; train with --trainer.precision 32-true and evaluate with "
                "precision f32, or choose parts without this operation"
            ) from error
        raise UserError(
            f"torch has no operation '{operation}' on {missing['device']}: expected a device that every part of the "
            "model supports; train with --trainer.accelerator cpu and evaluate with --device cpu, or choose parts "
            "without this operation"
        ) from error


def _missing_kernel(error: Exception) -> re.Match[str] | None:
    return next((match for pattern in KERNELS if (match := re.match(pattern, str(error)))), None)


@contextmanager
def absence(reason: str = "the model does not have it") -> Iterator[None]:
    """Asks torch.distributions, or a model that is not ours, for what may not exist.

    >>> with absence("the posterior has no mean in closed form"):
    ...     raise NotImplementedError
    Traceback (most recent call last):
    vaebench.errors.Unavailable: the posterior has no mean in closed form

    Args:
        reason: why not, where the error itself gives no reason.

    Raises:
        Unavailable: the block raised NotImplementedError.
        UserError: the block called an operation that torch lacks for its precision or device.
    """
    with require_kernels():
        try:
            yield
        except NotImplementedError as error:
            if _missing_kernel(error):
                raise
            raise Unavailable(reason if re.match(WORDLESS, str(error)) else str(error)) from error


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def disk_error(error: OSError) -> str | None:
    """A sentence for a disk or folder that cannot be used; None where the error is about something else.

    >>> print(disk_error(OSError(errno.ENOSPC, "No space left on device", "runs/model.ckpt")))
    there is no room for 'runs/model.ckpt' (No space left on device); make room, and the same command goes on
    """
    place = f"'{error.filename}'" if error.filename else None
    if error.errno in FULL:
        return f"there is no room for {place or 'a file'} ({error.strerror}); make room, and the same command goes on"
    if place is None:
        return None
    return (
        f"{place} cannot be used ({error.strerror}): expected a place that can be read and written; give another file "
        "or folder"
    )


NO_MEMORY = "there is not enough memory: expected less at a time; lower sizes or counts"


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had, on the CPU or on a GPU."""
    words = ("allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def printable(text: object) -> str:
    r"""Text on one line without what a terminal would obey, for what files and other programs say.

    >>> printable("red: \x1b[31m\n")
    'red: ?[31m?'
    """
    return "".join(c if c.isprintable() else "?" for c in str(text))


LONGEST = 300  # characters of what was given that a sentence repeats: a path fits


def unknown(kind: str, name: object, known: Iterable[str], remedy: str = "") -> UserError:
    """An error for a name that does not exist, with the nearest ones that do.

    >>> print(unknown("family", "beta_vea", ["vae", "beta_vae", "iwae"]))
    unknown family 'beta_vea'; did you mean beta_vae?
    """
    name, names = printable(name), [printable(one) for one in known]
    name = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
    lower = {known.lower(): known for known in names}
    near = [lower[n] for n in get_close_matches(name.lower(), lower, n=3, cutoff=0.4)] or sorted(names)[:12]
    listed = " or ".join(filter(None, [", ".join(near[:-1]), near[-1] if near else ""]))
    guess = f"did you mean {listed}?" if near else "there is none to choose from."
    return UserError(" ".join(filter(None, [f"unknown {kind} '{name}'; {guess}", remedy])))
