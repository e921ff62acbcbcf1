"""One worker: takes trials from the storage, one after another, until none is left.

It keeps no state between trials, which an objective runs (`trial.TrialRunner`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from optuna import Study, Trial, TrialPruned
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from vaebench.errors import UserError, disk_error
from vaebench.loggers import Logbook
from vaebench.sweep.spec.space import Point
from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import Objective, Outcome, patiently, take, tell
from vaebench.sweep.storage.study import ADDRESS, connect, create_study

AWAY = 3  # exit code: the disk or the storage failed, which would fail other trials too


class Interruption:
    """SIGINT, SIGTERM and SIGUSR2: raised inside `heard` blocks, recorded outside, so that bookkeeping is never broken.

    SLURM sends SIGUSR2 to all processes of a job whose time is nearly over (`--signal`).

    Attributes:
        came: whether a signal was received.
    """

    def __init__(self) -> None:
        self.came, self._open = False, False
        self._listen()

    def _listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._hear)

    def _hear(self, _: int, __: FrameType | None) -> None:
        self.came = True
        if self._open:
            raise KeyboardInterrupt

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Runs a block that either signal ends with a KeyboardInterrupt."""
        self._open = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False
            self._listen()  # Lightning installs its own handlers


def work(
    sweep: Sweep,
    storage: RDBStorage,
    study: Study,
    run: Objective,
    interruption: Interruption,
    go_on: Callable[[], bool],
) -> None:
    """Runs trials until none is left, `go_on()` is false, or an interruption.

    Args:
        sweep, storage, study: of the trials.
        run: runs one trial; raises `TrialPruned`, or the trial's error.
        interruption: of this process.
        go_on: whether to take another trial.

    Raises:
        OSError: the disk failed; the trial is returned to the queue.
        KeyboardInterrupt: the trial is returned to the queue.
    """
    while go_on() and not interruption.came and (taken := take(sweep, storage, study)):
        trial, point = taken
        with Heartbeat(storage, trial) as heart:
            conclude(study, trial, partial(_heard, interruption, run, trial, point, heart))
    if interruption.came:
        raise KeyboardInterrupt


def _heard(interruption: Interruption, run: Objective, trial: Trial, point: Point, heart: Heartbeat) -> Outcome:
    with interruption.heard():
        return run(trial, point, heart)


def conclude(study: Study, trial: Trial, run: Callable[[], Outcome]) -> None:
    """Ends a trial in the study, with its outcome or its error.

    Args:
        study, trial: the trial.
        run: its remaining work.

    Raises:
        OSError: the disk failed; the trial is returned to the queue.
        KeyboardInterrupt: the trial is returned to the queue.
    """
    try:
        outcome = run()
    except (KeyboardInterrupt, OSError):
        tell(study, trial, state=TrialState.FAIL, interrupted=True)
        raise
    except TrialPruned:
        tell(study, trial, state=TrialState.PRUNED)
    except (UpdateFinishedTrialError, StorageInternalError, SQLAlchemyError) as error:
        if not isinstance(error, UpdateFinishedTrialError):
            raise
    except Exception as error:
        tell(study, trial, state=TrialState.FAIL, error=f"{type(error).__name__}: {error}"[:500])
    else:
        _finish(study, trial, outcome)


def _finish(study: Study, trial: Trial, outcome: Outcome) -> None:
    def constrain() -> None:
        noted = trial.storage.get_trial_system_attrs(trial._trial_id)
        for name, value in outcome.constraints.items():
            if f"constraints:{name}" not in noted:
                trial.set_constraint(name, value)

    try:
        patiently(constrain)
    except UpdateFinishedTrialError:
        return
    tell(study, trial, outcome.values, figures=outcome.figures, records=outcome.records)


def start_worker(
    make: Callable[[Sweep, Path, Path, Logbook], Any],
    loop: Callable[..., None] = work,
    argv: list[str] | None = None,
) -> int:
    """Main function of a process that an engine starts: `python -m MODULE FILE --results FOLDER --work FOLDER`.

    The environment holds the storage's address.

    Args:
        make: creates the objective from the sweep, the folder of records, that of unfinished runs, and the logs.
        loop: as in `run_worker`.
        argv: the command's arguments; None uses the process's own.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--logger")
    given = parser.parse_args(argv)
    return run_worker(
        given.file, lambda sweep: make(sweep, given.results, given.work, Logbook(given.logger, given.work)), loop
    )


def run_worker(file: Path, make: Callable[[Sweep], Any], loop: Callable[..., None] = work) -> int:
    """Works on a sweep until it ends; returns the exit code for engines.

    Args:
        file: the sweep file.
        make: creates the objective from the sweep.
        loop: takes and runs trials, as `work` does.
    """
    interruption, parent = Interruption(), os.getppid()
    try:
        sweep = read_sweep(file)
        if ADDRESS not in os.environ:
            raise UserError(f"{ADDRESS} is not set: expected the storage's address; export it, also to jobs of SLURM")
        storage = patiently(partial(connect, sweep, os.environ[ADDRESS]))
        study = patiently(partial(create_study, sweep, storage, resume=True, launches=False))
        loop(sweep, storage, study, make(sweep), interruption, go_on=lambda: os.getppid() == parent)
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, StorageInternalError, SQLAlchemyError) as error:
        if isinstance(error, OSError) and (sentence := disk_error(error)):
            print(sentence, file=sys.stderr)
            return AWAY
        print(str(error.__cause__ or error).splitlines()[0], file=sys.stderr)  # Optuna's message hides the reason
        return AWAY
    return 0
