"""Sweeps whose trials train nothing, as processes that tests can kill.

python noop_sweep.py worker FILE RESULTS SECONDS     one worker
python noop_sweep.py driver FILE RESULTS SECONDS     a driver with such workers
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from fake_records import write_fake
from optuna import Trial
from rich.console import Console

from vaebench.errors import UserError
from vaebench.records import identity
from vaebench.sweep.driver import drive
from vaebench.sweep.engines import Launch
from vaebench.sweep.engines.local import LocalWorkers
from vaebench.sweep.show.terminal import LiveTable
from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import Outcome
from vaebench.sweep.storage.study import connect, create_study, default_storage
from vaebench.sweep.workers.worker import run_worker

GATE = "NOOP_GATE"  # in the environment: a file for which trials wait
TEXT = """
sweep: noop
space: {{model.beta: {{float: [0.1, 10], log: true}}, model.latent: {{int: [1, 9]}}}}
sampler: {{name: random, seed: 1}}
stop: {{trials: {trials}}}
engine: {{name: local, workers: {workers}}}
heartbeat: {heartbeat}
"""


def noop_file(folder: Path, trials: int = 12, workers: int = 2, heartbeat: int = 1, more: str = "") -> Path:
    """A sweep file for no-op trials."""
    path = folder / "noop.yaml"
    path.write_text(TEXT.format(trials=trials, workers=workers, heartbeat=heartbeat) + more)
    return path


class Noop:
    """A trial that waits, writes a record named after its settings, and is told by them."""

    def __init__(self, results: Path, seconds: float) -> None:
        self.results, self.seconds = results, seconds

    def __call__(self, trial: Trial, point: dict[str, Any], heart: Heartbeat) -> Outcome:
        (self.results / "alive").mkdir(parents=True, exist_ok=True)
        (self.results / "alive" / str(os.getpid())).write_text(str(trial.number))
        time.sleep(self.seconds)
        while GATE in os.environ and not Path(os.environ[GATE]).exists():
            time.sleep(0.05)
        directory = self.results / "noop" / identity(**point)
        if not directory.exists():
            write_fake(directory, np.random.default_rng(trial.number), variant=identity(**point))
        return Outcome([-abs(point["model.beta"] - 1)], {}, {}, [directory.name])


def noop_driver(file: Path, results: Path, seconds: float, storage: str | None = None) -> str:
    """Runs the sweep to its end with no-op workers, and says why it ended."""
    plan = read_sweep(file)
    address = storage or default_storage(plan, results)
    store = connect(plan, address)
    study = create_study(plan, store, resume=True)
    command = [sys.executable, __file__, "worker", str(file), str(results), str(seconds)]
    workers = LocalWorkers(Launch(plan, address, results, results / "work", accelerator="cpu"), command)
    with LiveTable(plan, study, Console(file=sys.stderr)) as board:
        return drive(plan, store, study, workers, board)


def _worker(file: Path, results: Path, seconds: float) -> int:
    def make(_: Sweep) -> Noop:
        return Noop(results, seconds)

    return run_worker(file, make)


if __name__ == "__main__":
    role, file, results, seconds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    if role == "worker":
        sys.exit(_worker(file, results, seconds))
    try:
        print(noop_driver(file, results, seconds, os.environ.get("NOOP_STORAGE")))
    except UserError as error:
        sys.exit(f"UserError: {error}")
