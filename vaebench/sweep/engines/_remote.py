"""Workers on other machines: the common part of Ray and SLURM."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from vaebench.errors import UserError
from vaebench.running.places import Losses
from vaebench.sweep.engines import Launch

RANKS = ("SLURM_NTASKS", "SLURM_PROCID")  # by which Lightning takes a worker for one process of a larger training


class Handle(Protocol):
    """A remote job."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> tuple[int, str] | None:
        """The worker's exit code and last line of output; None where it was lost, and 130 where it was preempted."""

    def cancel(self, now: bool) -> None:
        """Requests its end, or kills it."""


class Command:
    """`python -m vaebench.sweep.workers.solo` as a function for jobs.

    Args:
        words: the command.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)

    def __call__(self) -> tuple[int, str]:
        """Runs the command to its end; forwards an interruption, on which the worker returns its trial."""
        with subprocess.Popen(self.words, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
            try:
                _, error = child.communicate()
            except BaseException:
                child.send_signal(signal.SIGINT)
                child.wait()
                raise
        return child.returncode, (error.strip().splitlines() or ["it said nothing"])[-1]

    def checkpoint(self) -> Any:
        """The job that submitit queues when this one is preempted: the same one; its trial returns to the queue."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def worker(launch: Launch) -> Command:
    """The worker's command for any machine that sees the same folders: a population where the file gives `members`."""
    module = "workers.population" if "members" in launch.sweep.engine else "workers.solo"
    return Command(["env", *(f"--unset={name}" for name in RANKS), *launch.command(module)])


def require_server(launch: Launch) -> None:
    """Refuses SQLite, which other machines cannot reach."""
    if launch.storage.startswith("sqlite:"):
        raise UserError(
            f"the engine '{launch.sweep.engine['name']}' runs workers on other machines, and SQLite is for one: give "
            "--storage postgresql://USER@HOST/DATABASE"
        )


class RemoteWorkers:
    """Jobs that are started again while there are trials for them.

    Args:
        count: number of jobs to keep running.
        submit: starts a number of jobs.
        each: workers of a job.
    """

    def __init__(self, count: int, submit: Callable[[int], list[Handle]], each: int = 1) -> None:
        self.jobs_at_a_time, self.submit = count, submit
        self.count = count * each
        self.jobs: list[Handle] = []
        self.losses = Losses(count, "look at their nodes, then --resume")

    def tend(self, wanted: bool) -> None:
        """Collects ended jobs and starts missing ones."""
        for job in [job for job in self.jobs if job.done()]:
            self.jobs.remove(job)
            code, words = job.result() or (-1, "lost")
            if code < 0:
                self.losses.add()
            if code > 0 and code != 130:
                raise UserError(f"a worker ended: {words.rstrip('.')}; mend that and add --resume")
        missing = self.jobs_at_a_time - len(self.jobs)
        if wanted and missing:
            self.jobs += self.submit(missing)

    def alive(self) -> int:
        """Number of jobs that have not ended."""
        return sum(not job.done() for job in self.jobs)

    def interrupt(self) -> None:
        """Requests the end of every job."""
        for job in self.jobs:
            job.cancel(now=False)

    def kill(self) -> None:
        """Kills every job."""
        for job in self.jobs:
            job.cancel(now=True)
