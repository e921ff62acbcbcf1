"""A benchmark by several processes at once: one a core, or one or more a GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from pickle import UnpicklingError

from vaebench.configuration.registered import move_data, moved, trust, trusted
from vaebench.errors import UserError
from vaebench.loggers import Logbook
from vaebench.running.bench import Ended, bench
from vaebench.running.benchmark import Benchmark, BenchmarkRun
from vaebench.running.places import Losses, gpus, one_core
from vaebench.training.experiment import experiment
from vaebench.training.trainer import ONE_DEVICE


def bench_by_workers(
    benchmark: Benchmark, results: Path, work: Path, workers: int, logger: str | None = None
) -> Iterator[Ended]:
    """Trains, evaluates and records every run of a benchmark that has no record yet, several at a time.

    Workers are processes that take the next run that nobody has. Without GPUs each has its share of the cores; with
    GPUs they take them in turn. A worker that is killed, by a lack of memory for instance, is replaced, and its run
    resumed.

    Args:
        benchmark, results, work: as in `bench`.
        workers: number of processes.
        logger: of `Logbook`, for runs without a record.

    Yields:
        The end of each run, as it comes; runs that ended in an earlier call at the end.

    Raises:
        UserError: fewer than one worker, a run that trains on several devices, too many workers killed, or whatever
            ends `bench`.
    """
    if workers < 1:
        raise UserError(f"{workers} workers cannot run a benchmark: expected at least 1; give --workers 1 or more")
    for training in benchmark.runs:
        devices = experiment(training.args).plain["trainer"].get("devices")
        if devices not in ONE_DEVICE:
            raise UserError(
                f"{training.variant} trains on devices {devices}: expected one, since each worker has its own; leave "
                "out --workers, or set trainer.devices to 1"
            )
    staff = _Staff(benchmark, results, work, workers, logger)
    told = set[tuple[str, int]]()
    before = dict[tuple[str, int], Ended]()
    try:
        for ended in staff.ends():
            run = _run(ended.training)
            if ended.before:  # or by another worker in this call, which tells it
                before[run] = ended
            elif run not in told:
                told.add(run)
                yield ended
    finally:
        staff.dismiss()
    yield from (ended for run, ended in before.items() if run not in told)


def _run(training: BenchmarkRun) -> tuple[str, int]:
    return training.variant, training.seed


class _Staff:
    """The worker processes of a benchmark.

    Each has a pipe of its own: a lock of a common queue would be lost with the worker that holds it.

    Args:
        benchmark, results, work, workers, logger: as in `bench_by_workers`.
    """

    def __init__(self, benchmark: Benchmark, results: Path, work: Path, workers: int, logger: str | None) -> None:
        self._job = (benchmark, results, work, logger, time.time(), trusted(), moved())
        self._places = worker_places(workers)
        self._losses = Losses(workers, "look for what kills them (often the memory), and start fewer with --workers")
        self._workers = dict(self._start(slot) for slot in range(workers))

    def ends(self) -> Iterator[Ended]:
        """What the workers say, until all of them have ended."""
        while self._workers:
            for pipe in wait(list(self._workers)):
                assert isinstance(pipe, Connection)
                try:
                    said = pipe.recv()
                except (EOFError, OSError, UnpicklingError):  # it ended, perhaps in the middle of a sentence
                    self._follow(pipe)
                    continue
                if isinstance(said, UserError):
                    raise said
                yield said

    def dismiss(self) -> None:
        """Ends workers that still work; their runs go on in a later call."""
        for _, process in self._workers.values():
            process.terminate()
        for _, process in self._workers.values():
            process.join()

    def _follow(self, pipe: Connection) -> None:
        """Starts a worker in place of one that was killed."""
        slot, process = self._workers.pop(pipe)
        pipe.close()
        process.join()
        code = process.exitcode or 0
        if code > 0:
            raise UserError("a worker ended by itself: expected it to run the benchmark; its traceback is above")
        if code < 0:
            self._losses.add()
            self._workers |= [self._start(slot)]

    def _start(self, slot: int) -> tuple[Connection, tuple[int, SpawnProcess]]:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(*self._job, there), daemon=True)
        with _environment(self._places[slot]):
            process.start()
        there.close()
        return here, (slot, process)


def worker_places(workers: int) -> list[dict[str, str]]:
    """The environment of each worker, which gives it a GPU in turn or, without GPUs, its share of the cores."""
    if here := gpus():
        return [{"CUDA_VISIBLE_DEVICES": here[index % len(here)]} for index in range(workers)]
    share = max(1, len(os.sched_getaffinity(0)) // workers)
    return [one_core(share)] * workers


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Runs a block under other environment variables, which processes that it starts inherit."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(
    benchmark: Benchmark, results: Path, work: Path, logger: str | None, since: float, names: tuple[str, ...],
    root: str | None, said: Connection,
) -> None:  # fmt: skip
    """A worker: tells the end of every run, or why it could not go on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    trust(*names)
    if root is not None:
        move_data(root)
    try:
        for ended in bench(benchmark, results, work, progress=False, logbook=Logbook(logger, work), since=since):
            said.send(ended)
    except UserError as error:
        said.send(error)
    except OSError as error:
        where = error.filename or results
        said.send(
            UserError(f"a worker could not go on: {error.strerror or error} ('{where}'); mend that, and start again")
        )


def _end_with_parent() -> None:
    """Ends this process when the one that started it dies, however it dies."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
