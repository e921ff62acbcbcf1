"""Errors that are the user's to mend: one sentence with what, where, what was expected and what to do."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from difflib import get_close_matches

# What torch.load and a look into its result raise where a checkpoint is damaged, depending on where it was cut.
UNREADABLE = (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError)


class UserError(ValueError):
    """A mistake in the input. The command line prints it without a traceback and exits with code 2."""


def unknown(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UserError:
    """An error for a name that does not exist, with the nearest ones that do.

    >>> print(unknown("family", "beta_vea", ["vae", "beta_vae", "iwae"]))
    unknown family 'beta_vea'; did you mean beta_vae?
    """
    names = list(known)
    lower = {known.lower(): known for known in names}
    near = [lower[n] for n in get_close_matches(name.lower(), lower, n=3, cutoff=0.4)] or sorted(names)[:12]
    listed = " or ".join(filter(None, [", ".join(near[:-1]), near[-1] if near else ""]))
    guess = f"did you mean {listed}?" if near else "there is none to choose from."
    return UserError(" ".join(filter(None, [f"unknown {kind} '{name}'; {guess}", remedy])))
