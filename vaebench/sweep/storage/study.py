"""A sweep's study: its storage, sampler and pruner."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna import Study
from optuna.storages import RDBStorage

from vaebench.curves import VAL
from vaebench.errors import UserError
from vaebench.sweep.spec.methods import PRUNERS, SAMPLERS
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.sound import reading, require_address, require_sound

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import RDBStorage

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
            "pool_pre_ping": True,
            "connect_args": {"connect_timeout": 10},
        }  # after an outage, a connection that the server forgot is made anew
    else:
        raise UserError(
            f"'{address.partition(':')[0]}:' is no storage with heartbeats: expected sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE; give --storage one of them"
        )
    with reading():
        storage = RDBStorage(
            address, settings, heartbeat_interval=sweep.heartbeat, grace_period=GRACE * sweep.heartbeat
        )
        if storage.engine.dialect.name == "sqlite":
            with storage.engine.connect() as connection:  # a commit then waits for the disk once, and no less surely
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        return storage


def create_study(sweep: Sweep, storage: RDBStorage, resume: bool) -> Study:
    """Creates the sweep's study, or resumes it; a grid is queued point by point.

    Raises:
        UserError: it exists and `resume` is off, or its file had another fingerprint, or it is damaged.
    """
    with reading():
        return _created(sweep, storage, resume)


def _created(sweep: Sweep, storage: RDBStorage, resume: bool) -> Study:
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
    if "fingerprint" not in study.user_attrs:
        study.set_user_attr("fingerprint", sweep.fingerprint)
        study.set_user_attr("figures", list(sweep.objectives))
        study.set_metric_names([name.removeprefix(VAL) for name in sweep.objectives])
    _same(sweep, study)
    study.set_user_attr("launched", sum(t.state.is_finished() for t in trials))  # failures before do not count again
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
