"""The lock of a study, which all its processes on all machines share."""

from __future__ import annotations

import fcntl
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna import Study
from optuna.storages import RDBStorage
from sqlalchemy import Engine, text

SPACE = 0x7AEB  # of PostgreSQL's advisory locks, together with the study's number
PAUSES = (0.02, 2.0)  # seconds between attempts, which double from the first to the last


@contextmanager
def study_lock(storage: RDBStorage, study: Study) -> Iterator[None]:
    """Runs a block under a lock shared by all processes of the study; the end of a process releases it.

    PostgreSQL's lock belongs to the session, of which a process has one (`study.connect`): the block's own queries use
    the same connection, and between attempts heartbeats do. Waiting in the server with a limit would not do: a lock
    that is granted as the limit ends is held, though the query fails.
    """
    if storage.engine.dialect.name == "sqlite":
        with Path(f"{storage.engine.url.database}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    else:
        pause, longest = PAUSES
        while not _call(storage.engine, "pg_try_advisory_lock", study._study_id):
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, longest)
        try:
            yield
        finally:
            _call(storage.engine, "pg_advisory_unlock", study._study_id)


def _call(engine: Engine, function: str, number: int) -> bool:
    with engine.connect() as connection:
        place = {"space": SPACE, "number": number}
        return bool(connection.execute(text(f"SELECT {function}(:space, :number)"), place).scalar_one())
