"""A sweep's study: its storage, sampler and pruner."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna import Study
from optuna.storages import RDBStorage
from sqlalchemy import NullPool, text

from vaebench.curves import VAL
from vaebench.errors import UserError
from vaebench.sweep.spec.methods import PRUNERS, SAMPLERS
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.lock import study_lock
from vaebench.sweep.storage.sound import answering, reading, require_address, require_sound

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import RDBStorage

APPLICATION = "vaebench"  # of connections, as PostgreSQL lists them
GRACE = 3  # missing heartbeats after which a worker counts as dead


def default_storage(sweep: Sweep, results: Path) -> str:
    """The address of an SQLite file in the folder of records."""
    return f"sqlite:///{(results / sweep.name / 'sweep.db').resolve()}"


def connect(sweep: Sweep, address: str) -> RDBStorage:
    """The storage at an address, with heartbeats; creates missing tables.

    Args:
        sweep: the sweep, for its heartbeat.
        address: `sqlite:///FILE`, for one machine, or `postgresql://USER@HOST/DATABASE`, for many.

    Raises:
        UserError: another kind of address, no answer, or no storage of Optuna's.
    """
    from optuna import logging
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RDBStorage

    logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats, multivariate TPE, GP
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used", UserWarning)  # it is
    if address.startswith("sqlite:///"):
        file = address.removeprefix("sqlite:///")
        if file in ("", ":memory:") or "\0" in file or Path(file).is_dir():
            raise UserError(f"'{address}' names no file that processes share: expected sqlite:///FILE; mend --storage")
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {"connect_args": {"timeout": 60}}
    elif address.startswith("postgresql://"):
        require_address(address)
        address = address.replace("postgresql://", "postgresql+psycopg://", 1)
        settings = {
            "pool_size": 1,  # of the server's hundred, one a process
            "max_overflow": 0,
            "pool_pre_ping": True,  # after an outage, a connection that the server forgot is made anew
            "connect_args": {"connect_timeout": 10, "application_name": APPLICATION},
        }
    else:
        raise UserError(
            f"'{address.partition(':')[0]}:' is no storage with heartbeats: expected sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE; give --storage one of them"
        )
    server = address.startswith("postgresql")
    with reading():
        if server:  # creates missing tables and compares versions, by two connections at once
            RDBStorage(address, {"poolclass": NullPool, "connect_args": settings["connect_args"]})
        storage = RDBStorage(
            address,
            settings,
            skip_compatibility_check=server,
            heartbeat_interval=sweep.heartbeat,
            grace_period=GRACE * sweep.heartbeat,
        )
        if storage.engine.dialect.name == "sqlite":
            with storage.engine.connect() as connection:  # a commit then waits for the disk once, and no less surely
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        return storage


def require_connections(storage: RDBStorage, workers: int) -> None:
    """Refuses more workers than a PostgreSQL server has connections for.

    Args:
        storage: of the sweep.
        workers: number of processes that use it besides this one, with a connection each.

    Raises:
        UserError: they are too many.
    """
    if storage.engine.dialect.name == "sqlite":
        return
    room = text(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int - "
        "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> :own)"
    )
    with answering(), storage.engine.connect() as connection:
        most = int(connection.execute(room, {"own": APPLICATION}).scalar_one()) - 1
    if workers > most:
        raise UserError(
            f"the storage has connections for {most} workers, not for {workers}: raise the PostgreSQL server's "
            f"max_connections to {workers + 20} or more (and restart it), or start fewer with --workers"
        )


def create_study(sweep: Sweep, storage: RDBStorage, resume: bool, launches: bool = True) -> Study:
    """Creates the sweep's study, or resumes it; a grid is queued point by point.

    Args:
        sweep: the sweep.
        storage: of its trials.
        resume: whether it may exist.
        launches: whether failed trials so far are forgiven; not by a worker that joins, or begins a sweep that nobody
            drives.

    Raises:
        UserError: it exists and `resume` is off, or its file had another fingerprint, or it is damaged.
    """
    with reading():
        return _created(sweep, storage, resume, launches)


def _created(sweep: Sweep, storage: RDBStorage, resume: bool, launches: bool) -> Study:
    import optuna
    from optuna.study import StudyDirection

    directions = [
        StudyDirection.MAXIMIZE if direction == "maximise" else StudyDirection.MINIMIZE
        for direction in sweep.objectives.values()
    ]
    study = optuna.create_study(
        study_name=sweep.name, storage=storage, directions=directions, load_if_exists=True, pruner=pruner(sweep)
    )
    trials = study.get_trials(deepcopy=False)
    if trials and not resume:
        raise UserError(
            f"the sweep '{sweep.name}' has {len(trials)} trials already; add --resume to go on with it, or give "
            f"'{sweep.source.path}' another name (sweep: NAME)"
        )
    with study_lock(storage, study):  # several workers may begin it at once
        begins = "fingerprint" not in study.user_attrs
        if begins:
            study.set_user_attr("figures", list(sweep.objectives))
            study.set_metric_names([name.removeprefix(VAL) for name in sweep.objectives])
            study.set_user_attr("fingerprint", sweep.fingerprint)
        _same(sweep, study)
        trials = study.get_trials(deepcopy=False)
        if begins or launches:
            finished = sum(t.state.is_finished() for t in trials)
            study.set_user_attr("launched", finished)  # failures before do not count again
        if sweep.sampler["name"] == "grid":
            for point in sweep.space.points()[len([t for t in trials if "retry_of" not in t.user_attrs]) :]:
                study.enqueue_trial(point)
    return study


def load_study(sweep: Sweep, storage: RDBStorage) -> Study:
    """The study of a sweep that was started.

    Raises:
        UserError: there is none, or its file had another fingerprint, or it is damaged.
    """
    import optuna

    with reading():
        try:
            study = optuna.load_study(study_name=sweep.name, storage=storage, pruner=pruner(sweep))
        except KeyError:
            raise UserError(
                f"the storage holds no sweep '{sweep.name}'; start it with `vaebench sweep {sweep.source.path}`"
            ) from None
        _same(sweep, study)
        return study


def _same(sweep: Sweep, study: Study) -> None:
    if study.user_attrs.get("fingerprint") != sweep.fingerprint:
        raise UserError(
            f"'{sweep.source.path}' or a file it names, or a default that it relies on, has changed since the sweep "
            f"'{sweep.name}' began, where its trials could no longer be compared: restore it, or give it another name "
            "(sweep: NAME)"
        )
    require_sound(study, len(sweep.objectives))


def sampler(sweep: Sweep, turn: int) -> BaseSampler:
    """The sweep's sampler for one trial.

    Workers create one for every trial: its state is the storage's trials, and its seed differs between trials, since
    workers with equal seeds would start with equal settings.

    Args:
        sweep: the sweep.
        turn: number of trials before this one.
    """
    import numpy as np

    settings = sweep.sampler
    seed = int(np.random.SeedSequence((settings.get("seed", 0), turn)).generate_state(1)[0])
    return SAMPLERS[settings["name"]].make(settings, seed, sweep.space.conditional)


def pruner(sweep: Sweep) -> BasePruner:
    """The sweep's pruner, which counts epochs."""
    return PRUNERS[sweep.pruner["name"]].make(sweep.pruner)


ADDRESS = "VAEBENCH_STORAGE"  # in the environment: an address may hold a password
