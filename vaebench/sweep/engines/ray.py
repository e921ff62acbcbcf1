"""Workers on an existing Ray cluster, each with a share of a GPU; those of a lost node restart on others."""

from __future__ import annotations

import os
from typing import Any

from vaebench.errors import UserError, extra
from vaebench.sweep.engines import Launch
from vaebench.sweep.engines._remote import Handle, RemoteWorkers, require_server, worker
from vaebench.sweep.storage.study import ADDRESS

SETTINGS = {"workers": int, "cpus": float, "gpus": float, "devices": int, "members": int}  # gpus 0.25: four on a GPU


def start(launch: Launch) -> RemoteWorkers:
    """Workers as Ray tasks, on the cluster at RAY_ADDRESS or the one on this machine.

    Raises:
        UserError: Ray is not installed, there is no cluster, or SQLite is the storage.
    """
    require_server(launch)
    with extra("ray", "the engine 'ray'"):
        import ray
    if not ray.is_initialized():
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level=40)
        except ConnectionError:
            raise UserError("there is no Ray cluster; start one with `ray start --head`, or set RAY_ADDRESS") from None
    settings, total = launch.sweep.engine, ray.cluster_resources()
    cpus = settings.get("cpus", settings.get("devices", 1))
    gpus = settings.get("gpus", settings.get("devices", 1) if total.get("GPU") and launch.accelerator != "cpu" else 0)
    room = int(total.get("GPU", 0) / gpus) if gpus else int(total.get("CPU", 0) / cpus)
    environment = {ADDRESS: launch.storage, **({} if gpus else {"OMP_NUM_THREADS": "1"})}
    command = worker(launch)

    def run() -> tuple[int, str]:
        return command()

    options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0, "runtime_env": {"env_vars": environment}}
    task: Any = ray.remote(scheduling_strategy="SPREAD", **options)(run)
    return RemoteWorkers(launch.workers or settings.get("workers") or max(1, room), lambda n: _submit(task, n))


def _submit(task: Any, count: int) -> list[Handle]:
    return [RayJob(task.remote()) for _ in range(count)]


class RayJob:
    """A Ray task as a handle.

    Args:
        reference: of the task's result.
    """

    def __init__(self, reference: Any) -> None:
        self.reference = reference

    def done(self) -> bool:
        """Whether the task has ended."""
        import ray

        return bool(ray.wait([self.reference], timeout=0)[0])

    def result(self) -> tuple[int, str] | None:
        """The worker's exit code and last line of output; None where its node was lost or it was cancelled."""
        import ray

        try:
            return ray.get(self.reference)
        except ray.exceptions.RayError:
            return None

    def cancel(self, now: bool) -> None:
        """Interrupts the task, or kills its process."""
        import ray

        ray.cancel(self.reference, force=now)
