"""The lock of a study, which all its processes on all machines share."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna import Study
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

SPACE = 0x7AEB  # of PostgreSQL's advisory locks, together with the study's number
LATE = "55P03"  # PostgreSQL's code for the end of a wait


@contextmanager
def study_lock(storage: RDBStorage, study: Study) -> Iterator[None]:
    """Runs a block under a lock shared by all processes of the study; the end of a process releases it.

    PostgreSQL's lock belongs to the session, of which a process has one (`study.connect`): the block's own queries use
    the same connection. A wait for it ends with each interval of heartbeats, which then have the connection.
    """
    if storage.engine.dialect.name == "sqlite":
        with Path(f"{storage.engine.url.database}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    else:
        turn = storage.heartbeat_interval or 10
        while not _locked(storage.engine, study._study_id, turn):
            time.sleep(0.05)
        try:
            yield
        finally:
            with storage.engine.connect() as connection:
                _call(connection, "pg_advisory_unlock", study._study_id)


def _locked(engine: Engine, number: int, seconds: int) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{seconds}s'"))
            _call(connection, "pg_advisory_lock", number)
    except OperationalError as error:
        if _code(error) == LATE:
            return False
        raise
    return True


def _call(connection: Connection, function: str, number: int) -> None:
    connection.execute(text(f"SELECT {function}(:space, :number)"), {"space": SPACE, "number": number})


def _code(error: OperationalError) -> str | None:
    """PostgreSQL's code of an error, which psycopg keeps."""
    return vars(type(error.orig)).get("sqlstate")
