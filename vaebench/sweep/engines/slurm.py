"""Workers as a SLURM job array, through submitit; jobs that are preempted or out of time are queued again."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import make_url

from vaebench.errors import UserError, extra
from vaebench.sweep.engines import Launch
from vaebench.sweep.engines._remote import Handle, RemoteWorkers, require_server, worker
from vaebench.sweep.storage.study import ADDRESS

SETTINGS = {
    "workers": int, "minutes": int, "cpus": int, "gpus": int, "memory": str, "gres": str, "constraint": str,
    "partition": str, "account": str, "qos": str, "setup": list, "per_gpu": int, "devices": int, "members": int,
}  # fmt: skip
NAMES = {"minutes": "time", "cpus": "cpus_per_task", "gpus": "gpus_per_node", "memory": "mem",
         "per_gpu": "ntasks_per_node"}  # fmt: skip
OWN = ("name", "workers", "devices", "members")  # settings that are not SLURM's
TIMEOUTS = 10**6  # of a job: it is queued again as long as there are trials
ASK = 60.0  # seconds between questions for the state of jobs, which submitit asks every ten minutes at last
VISIBLE = 15.0  # seconds after which the result of a job that has ended is seen on a shared file system
REQUEUE = [
    "code=$?",
    "if [ $code -eq 130 ]; then  # preempted, or time is nearly over; its trial is in the queue again",
    '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" && exit',  # one task has the array's number
    "fi",
    "exit $code",
]


def start(launch: Launch) -> RemoteWorkers:
    """Workers as jobs of one array, submitted from here; the environment holds the storage's address.

    Raises:
        UserError: submitit or SLURM is not here, SQLite is the storage, or jobs of this sweep are in the queue.
    """
    require_server(launch)
    _require_submitit()
    if shutil.which("sbatch") is None:
        raise UserError("there is no sbatch here; start the sweep on a machine that submits to SLURM")
    if queued := _queued(launch):
        raise UserError(
            f"{', '.join(queued)} of {launch.sweep.name} are in SLURM's queue and go on without a driver: expected no "
            "jobs before others are submitted; see what they do by `vaebench sweep status`, or end them by "
            f"`scancel {' '.join(queued)}`"
        )
    import submitit

    executor = submitit.SlurmExecutor(folder=_folder(launch), max_num_timeout=TIMEOUTS)
    executor.update_parameters(**parameters(launch))
    each = launch.sweep.engine.get("per_gpu", 1)
    return RemoteWorkers(_count(launch), lambda count: submit(executor, launch, count), each)


def preview(launch: Launch) -> str:
    """A script for `sbatch`, whose jobs need nobody to watch them: they begin the study, and are queued again.

    It holds the storage's address, unless that has a password, which the environment then gives.
    """
    _require_submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    given = parameters(launch)
    command = shlex.join(["srun", *given.pop("srun_args"), *worker(launch).words])
    log = f"vaebench-{launch.sweep.name}-%A_%a.log"
    return _make_sbatch_string(
        command,
        Path.cwd(),
        map_count=_count(launch),
        **given | {"setup": [_address(launch.storage), *given["setup"]], "teardown": REQUEUE, "use_srun": False,
                   "stderr_to_stdout": True, "additional_parameters": {"requeue": True, "output": log}},
    )  # fmt: skip


def parameters(launch: Launch) -> dict[str, Any]:
    """The sweep file's settings under submitit's names."""
    settings = launch.sweep.engine
    own = {NAMES.get(key, key): value for key, value in settings.items() if key not in OWN}
    asks = launch.accelerator != "cpu" and not {"gres", "gpus"} & settings.keys()
    gpus = {"gpus_per_node": settings.get("devices", 1)} if asks else {}
    cpus = own.get("cpus_per_task", 2)
    return {"job_name": f"vaebench-{launch.sweep.name}", "time": 24 * 60, **gpus, **own} | {
        "comment": _mark(launch),
        "cpus_per_task": cpus,
        "srun_args": [f"--cpus-per-task={cpus}"],  # since SLURM 22.05 srun does not take it from sbatch
        "setup": ['export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"', *settings.get("setup", [])],
        "array_parallelism": _count(launch),
        "additional_parameters": {"requeue": True},
        "wckey": None,  # submitit's own name, which clusters that track such keys refuse
    }


def submit(executor: Any, launch: Launch, count: int) -> list[Handle]:
    """Submits a number of workers through one of submitit's executors."""
    os.environ[ADDRESS] = launch.storage
    with executor.batch():
        jobs = [executor.submit(worker(launch)) for _ in range(count)]
    return [SlurmJob(job) for job in jobs]


def _mark(launch: Launch) -> str:
    """A comment that the jobs of a sweep have and no others: sweeps of one name may have several storages.

    All users of a cluster see it: from a digest of the storage's password they could guess that one.
    """
    place = make_url(launch.storage).set(password=None).render_as_string()
    return f"vaebench-{hashlib.sha256(f'{place} {launch.sweep.name}'.encode()).hexdigest()[:12]}"


def _queued(launch: Launch) -> list[str]:
    """Names of the jobs of a sweep that wait or run, as scancel takes them; none where SLURM does not answer."""
    asked = ["squeue", "--me", "--noheader", "--format=%i %k"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    mark = _mark(launch)
    return [name for name, _, comment in (line.strip().partition(" ") for line in lines) if comment == mark]


def _count(launch: Launch) -> int:
    return launch.workers or launch.sweep.engine.get("workers", 4)


def _folder(launch: Launch) -> str:
    return str(launch.work.resolve() / launch.sweep.name / "slurm")


def _address(storage: str) -> str:
    """The line that gives the storage's address, or refuses to go on without it."""
    if storage.startswith("sqlite:") or make_url(storage).password is None:
        return f"export {ADDRESS}={shlex.quote(storage)}"
    return f': "${{{ADDRESS}:?expected the address of the storage, which has a password: export it before sbatch}}"'


def _require_submitit() -> None:
    with extra("slurm", "the engine 'slurm'"):
        import submitit  # noqa: F401


class SlurmJob:
    """A submitit job as a handle; it has several tasks where several workers share its GPU.

    Args:
        job: the job.
    """

    asked: ClassVar[float] = 0.0  # when SLURM was last asked for the state of all jobs

    def __init__(self, job: Any) -> None:
        self.job = job
        self.tasks = [job.task(index) for index in range(job.num_tasks)]
        self._ended = time.monotonic()

    def done(self) -> bool:
        """Whether the job has ended and will not be requeued."""
        now = time.monotonic()
        if now > SlurmJob.asked + ASK:
            SlurmJob.asked = now
            self.job.get_info()  # of all jobs at once
        if not all(task.done() for task in self.tasks):
            self._ended = now
            return False
        return self._written() or now > self._ended + VISIBLE

    def result(self) -> tuple[int, str] | None:
        """The worker's exit code and last line of output; None where it was lost, and 130 where it was preempted."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if not self._written():
            state = str(self.job.state)
            return (130, state) if state.startswith(("PREEMPTED", "TIMEOUT")) else None
        try:
            ends = [task.result() for task in self.tasks]
        except (UncompletedJobError, FailedJobError):
            return None
        worst = max(ends, key=lambda end: (end[0] not in (0, 130), abs(end[0])))
        if worst[0] == 130:  # who was preempted is queued again by some clusters, beside the job that replaces it here
            self.cancel(now=True)
        return worst

    def cancel(self, now: bool) -> None:
        """`scancel`: SIGTERM, on which the worker returns its trial, and SIGKILL half a minute later."""
        self.job.cancel(check=False)

    def _written(self) -> bool:
        return all(task.paths.result_pickle.exists() for task in self.tasks)
