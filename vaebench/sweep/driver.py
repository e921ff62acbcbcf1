"""The driver: starts a sweep's workers through its engine, watches the storage, and shuts down cleanly."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

from optuna import Study
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from vaebench.errors import UserError, unknown
from vaebench.loggers import Logbook
from vaebench.sweep.engines import Launch, Workers, preview, start
from vaebench.sweep.show.terminal import LiveTable, overview, verdict
from vaebench.sweep.spec.engine import engines
from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage.lock import study_lock
from vaebench.sweep.storage.queue import mend, over, patiently, to_do
from vaebench.sweep.storage.sound import answering
from vaebench.sweep.storage.study import connect, create_study, default_storage, load_study, require_connections

POLL = 0.5  # seconds between polls


def run_sweep(
    file: Path,
    results: Path,
    work: Path,
    storage: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    engine: str | None = None,
    logger: str | None = None,
    console: Console | None = None,
) -> Path:
    """Runs a sweep to its end, and writes its report.

    Args:
        file: the sweep file.
        results: folder of records; the sweep's go to `results/<sweep>/`.
        work: folder for unfinished runs.
        storage: address; None uses SQLite in the folder of records.
        workers: number of workers; None leaves it to the engine.
        resume: continue a sweep that was started.
        engine: name of an engine that replaces the file's, with default settings.
        logger: destination of training logs; see `vaebench.loggers.Logbook`.
        console: for the table.

    Returns:
        The report's page.

    Raises:
        UserError: the file is not valid, no worker can continue, or trials failed and none finished.
        KeyboardInterrupt: it was interrupted, and all trials were returned to the queue.
    """
    Logbook(logger, work)  # reports a mistake in it at once
    launch = _launch(file, results, work, storage, workers, engine, logger)
    sweep = launch.sweep
    engine_workers = start(launch)
    store = connect(sweep, launch.storage)
    ranks = 2 if sweep.engine.get("devices", 1) > 1 else 1  # a worker and rank 0 of its trial
    require_connections(store, engine_workers.count * ranks)
    study = create_study(sweep, store, resume)
    with answering(), LiveTable(sweep, study, console) as table:
        reason = drive(sweep, store, study, engine_workers, table)
        trials = study.get_trials(deepcopy=False)
    table.console.print(f"{sweep.name}: {reason}\n{verdict(sweep, study, trials)}", highlight=False, soft_wrap=True)
    errors = [trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs]
    if errors and not any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials):
        raise UserError(
            f"no trial of {sweep.name} came to an end ({errors[-1]}): expected settings that can be trained; mend the "
            "file and give the sweep another name"
        )
    from vaebench.sweep.show.page import write_sweep_report

    return write_sweep_report(sweep, study, results)


def dry_run(
    file: Path,
    results: Path,
    work: Path,
    storage: str | None = None,
    workers: int | None = None,
    engine: str | None = None,
    logger: str | None = None,
) -> str:
    """Checks a sweep file; returns the jobs that its engine would start. Arguments as in `run_sweep`."""
    return preview(_launch(file, results, work, storage, workers, engine, logger))


def _launch(
    file: Path,
    results: Path,
    work: Path,
    storage: str | None,
    workers: int | None,
    engine: str | None,
    logger: str | None,
) -> Launch:
    from vaebench.sweep.check import check  # it builds models; drivers of workers that run need no torch

    sweep = read_sweep(file)
    if engine is not None and engine != sweep.engine["name"]:
        if engine not in engines():
            raise unknown("engine", engine, engines())
        sweep = replace(sweep, engine={"name": engine})
    shared = check(sweep)
    address = storage or default_storage(sweep, results)
    return Launch(sweep, address, results, work, workers, str(shared.config.trainer.accelerator), logger)


def drive(sweep: Sweep, storage: RDBStorage, study: Study, workers: Workers, table: LiveTable) -> str:
    """Keeps workers running until the sweep ends; returns the reason of its end.

    On the first Ctrl-C workers return their trials to the queue; a second one kills them.
    """
    with _interruptible() as interrupted:
        deadline = time.monotonic() + 3600 * sweep.stop.get("hours", float("inf"))
        looked, trials = -1e9, study.get_trials(deepcopy=False)
        try:
            while True:
                if time.monotonic() > looked + sweep.heartbeat:
                    looked, trials = time.monotonic(), _mended(storage, study)
                else:
                    trials = patiently(lambda: study.get_trials(deepcopy=False))
                table.show(trials)
                if interrupted or time.monotonic() > deadline:
                    break
                wanted = patiently(partial(to_do, sweep, study, trials))
                workers.tend(wanted)
                if not wanted and not workers.alive() and _settled(sweep, study, trials := _mended(storage, study)):
                    end = patiently(partial(over, sweep, study, trials))
                    return end.reason if end else "done"
                time.sleep(POLL)
            _end(workers, interrupted)
            table.show(_mended(storage, study))
        except BaseException:
            workers.kill()
            raise
    if interrupted:
        raise KeyboardInterrupt
    return f"{sweep.stop['hours']} hours are over; add --resume to go on"


def _end(workers: Workers, interrupted: list[int]) -> None:
    """Waits until the workers have returned their trials, or for a second Ctrl-C."""
    heard = len(interrupted)
    workers.interrupt()
    while workers.alive():
        if len(interrupted) > max(heard, 1):
            workers.kill()
        time.sleep(0.1)


def _mended(storage: RDBStorage, study: Study) -> list[FrozenTrial]:
    def look() -> list[FrozenTrial]:
        with study_lock(storage, study):
            return mend(storage, study)

    return patiently(look)


def _settled(sweep: Sweep, study: Study, trials: list[FrozenTrial]) -> bool:
    running = any(trial.state == TrialState.RUNNING for trial in trials)
    return not running and not patiently(partial(to_do, sweep, study, trials))


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Collects SIGINTs instead of raising them."""
    came: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def status(file: Path, results: Path, storage: str | None = None, console: Console | None = None) -> None:
    """Prints the state of a sweep.

    Raises:
        UserError: it was never started.
    """
    sweep, study = _started(file, results, storage)
    with answering():
        overview(sweep, study, study.get_trials(deepcopy=False), console)


def report(file: Path, results: Path, storage: str | None = None) -> Path:
    """Writes the report of a sweep's current state, and returns the page.

    Raises:
        UserError: it was never started.
    """
    from vaebench.sweep.show.page import write_sweep_report

    sweep, study = _started(file, results, storage)
    with answering():
        return write_sweep_report(sweep, study, results)


def _started(file: Path, results: Path, storage: str | None) -> tuple[Sweep, Study]:
    sweep = read_sweep(file)
    address = storage or default_storage(sweep, results)
    if address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).is_file():
        raise UserError(f"there is no '{address.removeprefix('sqlite:///')}'; start the sweep, or give its --storage")
    return sweep, load_study(sweep, connect(sweep, address))
