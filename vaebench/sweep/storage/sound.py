"""Checks on a storage: errors for one that is unreachable, damaged or of another program."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

from optuna import Study
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from vaebench.errors import UserError

NOTES: Mapping[str, type | tuple[type, ...]] = {
    "records": list, "figures": dict, "error": str, "company": str, "interrupted": bool, "retry_of": int, "first": int,
    "kills": int, "reached": Real, "together": Real, "progress": (list, tuple), "ahead": bool,
}  # fmt: skip
"""The user attributes that trials have, with their types."""


class AwayError(UserError):
    """A storage does not answer; a worker waits for it, as in an outage."""


def require_address(address: str) -> None:
    """Refuses an address that cannot be parsed, without repeating it, since it may hold a password.

    Raises:
        UserError: it cannot.
    """
    try:
        make_url(address)
    except (ArgumentError, ValueError):
        raise UserError(
            "the storage's address cannot be read: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE; mend "
            "--storage"
        ) from None


@contextmanager
def answering() -> Iterator[None]:
    """Runs a block that uses a storage, and translates its errors.

    Raises:
        AwayError: it does not answer.
        UserError: it is damaged.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        inner = cause.orig if isinstance(cause, DBAPIError) else cause
        if type(inner) is sqlite3.DatabaseError:  # its subclasses say that a file cannot be reached
            raise damaged(inner) from error
        raise AwayError(
            f"the storage does not answer ({_first(inner)}): expected a database that accepts connections; start it, "
            "mend --storage, or install vaebench[postgres]"
        ) from error


@contextmanager
def reading() -> Iterator[None]:
    """Runs a block that only reads a storage, so that any error in it comes from the storage's content.

    Raises:
        AwayError: it does not answer.
        UserError: it is damaged, or no sweep's.
    """
    try:
        with answering():
            yield
    except UserError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise damaged(error) from error


def damaged(reason: BaseException | str) -> UserError:
    """The error for a storage whose content no sweep wrote."""
    return UserError(
        f"the storage is damaged, or of another program or version ({_first(reason)}): expected one that `vaebench "
        "sweep` wrote; restore it, or give another --storage"
    )


def _first(reason: BaseException | str | None) -> str:
    text = " ".join(str(reason).split()).partition(". ")[0].rstrip(".")
    return f"{text[:120]}…" if len(text) > 120 else text or type(reason).__name__


def require_sound(study: Study, objectives: int) -> None:
    """Refuses a study with trials that no worker of a sweep can have stored.

    Args:
        study: of a sweep.
        objectives: number of values of a finished trial.

    Raises:
        UserError: there is one.
    """
    if len(study.directions) != objectives:
        raise damaged(f"the study has {len(study.directions)} directions for {objectives} objectives")
    if not isinstance(study.user_attrs.get("launched", 0), int):
        raise damaged("the study's 'launched' is no number")
    trials = study.get_trials(deepcopy=False)
    if [trial.number for trial in trials] != list(range(len(trials))):
        raise damaged("the numbers of its trials leave some out or stand twice")
    for trial in trials:
        if wrong := _wrong(trial, objectives):
            raise damaged(f"trial {trial.number} has {wrong}")


def _wrong(trial: FrozenTrial, objectives: int) -> str | None:
    """The first invalid field of a trial; None where it is sound."""
    if trial.state == TrialState.COMPLETE and not _numbers(trial.values or (), objectives):
        return f"no {objectives} values"
    if not _numbers(list(trial.intermediate_values.values()), len(trial.intermediate_values)):
        return "a bound that is no number"
    for name, distribution in trial.distributions.items():
        if not isinstance(distribution, CategoricalDistribution) and not isinstance(trial.params[name], Real):
            return f"'{name}' of another type"
    for name, kind in NOTES.items():
        if name in trial.user_attrs and not isinstance(trial.user_attrs[name], kind):
            return f"'{name}' of another type"
    done = trial.user_attrs.get("progress", (0.0, None))
    if not (len(done) == 2 and isinstance(done[0], Real) and isinstance(done[1], Real | None)):
        return "'progress' of another type"
    if not all(isinstance(record, str) for record in trial.user_attrs.get("records", ())):
        return "records without names"
    return None


def _numbers(values: Sequence[Any], number: int) -> bool:
    return len(values) == number and all(isinstance(value, Real) for value in values)
