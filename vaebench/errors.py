"""Errors that are the user's to mend: one sentence with what, where, what was expected and what to do."""

from __future__ import annotations

import errno
import pickle
import struct
from collections.abc import Iterable
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


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had, on the CPU or on a GPU."""
    words = ("allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def unknown(kind: str, name: object, known: Iterable[str], remedy: str = "") -> UserError:
    """An error for a name that does not exist, with the nearest ones that do.

    >>> print(unknown("family", "beta_vea", ["vae", "beta_vae", "iwae"]))
    unknown family 'beta_vea'; did you mean beta_vae?
    """
    name, names = str(name), [str(one) for one in known]
    lower = {known.lower(): known for known in names}
    near = [lower[n] for n in get_close_matches(name.lower(), lower, n=3, cutoff=0.4)] or sorted(names)[:12]
    listed = " or ".join(filter(None, [", ".join(near[:-1]), near[-1] if near else ""]))
    guess = f"did you mean {listed}?" if near else "there is none to choose from."
    return UserError(" ".join(filter(None, [f"unknown {kind} '{name}'; {guess}", remedy])))
