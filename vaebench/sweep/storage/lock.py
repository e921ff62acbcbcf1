"""The lock of a study, which all its processes on all machines share."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna import Study
from optuna.storages import RDBStorage
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

SPACE = 0x7AEB  # of PostgreSQL's advisory locks, together with the study's number
TURN = "2s"  # a wait of PostgreSQL's at most, between which heartbeats have the connection
LATE = "55P03"  # PostgreSQL's code for such a wait's end


@contextmanager
def study_lock(storage: RDBStorage, study: Study) -> Iterator[None]:
    """Runs a block under a lock shared by all processes of the study; the end of a process releases it.

    PostgreSQL's lock belongs to the session, of which a process has one (`study.connect`): the block's own queries use
    the same connection.
    """
    if storage.engine.dialect.name == "sqlite":
        with Path(f"{storage.engine.url.database}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    else:
        while not _locked(storage.engine, study._study_id):
            time.sleep(0.02)
        try:
            yield
        finally:
            _call(storage.engine, "pg_advisory_unlock", study._study_id)


def _locked(engine: Engine, number: int) -> bool:
    try:
        _call(engine, "pg_advisory_lock", number)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == LATE:
            return False
        raise
    return True


def _call(engine: Engine, function: str, number: int) -> None:
    with engine.connect() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{TURN}'"))
        connection.execute(text(f"SELECT {function}(:space, :number)"), {"space": SPACE, "number": number})
