"""Workers as a SLURM job array, through submitit; preempted ones are requeued."""

from __future__ import annotations

import os
import shutil
from typing import Any

from vaebench.errors import UserError, extra
from vaebench.sweep.engines import Launch
from vaebench.sweep.engines._remote import Handle, RemoteWorkers, require_server, worker
from vaebench.sweep.storage.study import ADDRESS

SETTINGS = {
    "workers": int, "minutes": int, "cpus": int, "gpus": int, "memory": str,
    "partition": str, "account": str, "qos": str,
}  # fmt: skip


def start(launch: Launch) -> RemoteWorkers:
    """Workers as jobs of one array, submitted from here; the environment holds the storage's address.

    Raises:
        UserError: submitit or SLURM is not here, or SQLite is the storage.
    """
    require_server(launch)
    _require_submitit()
    if shutil.which("sbatch") is None:
        raise UserError("there is no sbatch here; start the sweep on a machine that submits to SLURM")
    import submitit

    executor = submitit.SlurmExecutor(folder=_folder(launch))
    executor.update_parameters(**parameters(launch))
    return RemoteWorkers(_count(launch), lambda count: submit(executor, launch, count))


def preview(launch: Launch) -> str:
    """The script for `sbatch`."""
    _require_submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    command = " ".join(worker(launch).words)
    return _make_sbatch_string(command, _folder(launch), map_count=_count(launch), **parameters(launch))


def parameters(launch: Launch) -> dict[str, Any]:
    """The sweep file's settings under submitit's names."""
    settings = launch.sweep.engine
    names = {"minutes": "time", "cpus": "cpus_per_task", "gpus": "gpus_per_node", "memory": "mem"}
    own = {names.get(key, key): value for key, value in settings.items() if key not in ("name", "workers")}
    gpus = {} if launch.accelerator == "cpu" else {"gpus_per_node": 1}
    return {"job_name": f"vaebench-{launch.sweep.name}", "time": 24 * 60, "cpus_per_task": 2, **gpus, **own}


def submit(executor: Any, launch: Launch, count: int) -> list[Handle]:
    """Submits a number of workers through one of submitit's executors."""
    os.environ[ADDRESS] = launch.storage
    with executor.batch():
        jobs = [executor.submit(worker(launch)) for _ in range(count)]
    return [SlurmJob(job) for job in jobs]


def _count(launch: Launch) -> int:
    return launch.workers or launch.sweep.engine.get("workers", 4)


def _folder(launch: Launch) -> str:
    return str(launch.work.resolve() / launch.sweep.name / "slurm")


def _require_submitit() -> None:
    with extra("slurm", "the engine 'slurm'"):
        import submitit  # noqa: F401


class SlurmJob:
    """A submitit job as a handle.

    Args:
        job: the job.
    """

    def __init__(self, job: Any) -> None:
        self.job = job

    def done(self) -> bool:
        """Whether the job has ended and will not be requeued."""
        return self.job.done()

    def result(self) -> tuple[int, str] | None:
        """The worker's exit code and last line of output; None where its node was lost or it was cancelled."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return self.job.result()
        except (UncompletedJobError, FailedJobError):
            return None

    def cancel(self, now: bool) -> None:
        """`scancel`: SIGTERM, on which the worker returns its trial, and SIGKILL half a minute later."""
        self.job.cancel(check=False)
