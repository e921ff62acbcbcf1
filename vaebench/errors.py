"""Errors for users: one sentence with the problem, its place, the expected value and a remedy.

`Unavailable` is not one of them: it marks a density, closed form or metric that does not exist, and ends no evaluation.
"""

from __future__ import annotations

import errno
import pickle
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

# What torch.load and a look into its result raise where a checkpoint is damaged, depending on where it was cut.
UNREADABLE = (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
              AssertionError, struct.error, zlib.error, pickle.UnpicklingError)  # fmt: skip


class UserError(ValueError):
    """A mistake in the input. The command line prints it without a traceback and exits with `code`."""

    code = 2


class Diverged(UserError):  # noqa: N818
    """Training ended in non-finite numbers; the usual remedies follow the given sentence."""

    code = 3

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}; a lower model.lr, a limit on gradients (model.clip 100) or a warm-up of the objective's weight "
            "usually helps"
        )


class Unavailable(Exception):  # noqa: N818
    """Something that a model, its data or a measurement does not have; `str` is the reason, without a full stop.

    A metric that needs it is "unavailable: reason". torch.distributions and adapters raise NotImplementedError where
    something does not exist, and torch raises the same class for a missing kernel; `absence` separates the two.
    """


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Turns a missing package into a UserError that names the extra of vaebench which installs it.

    >>> with extra("hdf5", "'a.h5'"):  # doctest: +ELLIPSIS
    ...     import no_such_h5py
    Traceback (most recent call last):
    vaebench.errors.UserError: 'a.h5' needs the package 'no_such_h5py', which is not installed; `pip install ...

    Args:
        name: of the extra.
        what: needs it, for the message.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{what} needs the package '{error.name}', which is not installed; "
            f'`pip install "vaebench[{name}]"` does that'
        ) from None


# Messages of torch about missing kernels for a dtype or a device.
KERNELS = (
    r"\"(?P<operation>\w+)\" not implemented for '?(?P<precision>\w+)",
    r"(?P<operation>[\w.]+): Low precision dtypes not supported\. Got (?P<precision>\w+)",
    r"Could not run '(?P<operation>[\w:.]+)' with arguments from the '(?P<device>\w+)' backend",
    r"The operator '(?P<operation>[\w:.]+)' is not currently implemented for the (?P<device>\w+) device",
)
WORDLESS = r"No KL\(p \|\| q\)|$"  # messages of torch.distributions without a reason


@contextmanager
def require_kernels() -> Iterator[None]:
    """Turns errors about kernels that torch lacks for a precision or device into a UserError.

    Raises:
        UserError: torch lacks an operation of the block.
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
    """Runs a block that needs a feature which torch.distributions or a third-party model may lack.

    >>> with absence("the posterior has no mean in closed form"):
    ...     raise NotImplementedError
    Traceback (most recent call last):
    vaebench.errors.Unavailable: the posterior has no mean in closed form

    Args:
        reason: the reason, where the error itself has none.

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
    """A message for a disk or folder that cannot be used; None for other errors.

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
    """Whether an exception reports a lack of memory, on the CPU or a GPU."""
    words = ("allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def printable(text: object) -> str:
    r"""Text with "?" for every character that is not printable, such as a terminal's escape sequences.

    >>> printable("red: \x1b[31m\n")
    'red: ?[31m?'
    """
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


LONGEST = 300  # characters of a given value in a message, enough for a path


def unknown(kind: str, name: object, known: Iterable[str], remedy: str = "") -> UserError:
    """An error for an unknown name, with the nearest known ones.

    >>> print(unknown("family", "beta_vea", ["vae", "beta_vae", "iwae"]))
    unknown family 'beta_vea'; did you mean beta_vae?
    """
    name, names = printable(name), [printable(one) for one in known]
    name = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
    lower = {known.lower(): known for known in names}
    near = [lower[n] for n in get_close_matches(name.lower(), lower, n=3, cutoff=0.4)] or sorted(set(names))[:12]
    listed = " or ".join(filter(None, [", ".join(near[:-1]), near[-1] if near else ""]))
    guess = f"did you mean {listed}?" if near else "there is none to choose from."
    return UserError(" ".join(filter(None, [f"unknown {kind} '{name}'; {guess}", remedy])))
