"""Workers on this machine: one or more processes per GPU; without GPUs one per core, with one thread each."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vaebench.errors import UserError
from vaebench.running.places import Losses, gpus, one_core
from vaebench.sweep.engines import Launch
from vaebench.sweep.storage.study import ADDRESS

SETTINGS = {"workers": int, "per_gpu": int, "devices": int}


def start(launch: Launch) -> LocalWorkers:
    """This machine's workers for a sweep."""
    return LocalWorkers(launch, launch.command("workers.solo"))


class LocalWorkers:
    """Worker processes of one machine, each in its own session, so that terminal signals reach only the driver.

    Args:
        launch: of the sweep.
        command: of one worker.
        places: the environment of each worker; None takes `slots`.
    """

    def __init__(self, launch: Launch, command: Sequence[str], places: list[dict[str, str]] | None = None) -> None:
        self.launch, self.command = launch, list(command)
        self.logs = launch.work / launch.sweep.name
        self.slots = places or slots(launch)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}  # by slot
        self.count = len(self.slots)
        self._losses = Losses(
            self.count,
            "look for what kills them (often the memory), start fewer with --workers, and add --resume",
        )

    def tend(self, wanted: bool) -> None:
        """Collects ended workers and starts missing ones while there are trials for them."""
        for slot, process in list(self.processes.items()):
            if (code := process.poll()) is not None:
                del self.processes[slot]
                if code > 0 and code != 130:
                    raise UserError(f"a worker ended: {_last_line(self._log(slot))}; mend that and add --resume")
                if code < 0:
                    self._losses.add()
        for slot in range(len(self.slots)):
            if wanted and slot not in self.processes:
                self._start(slot)

    def alive(self) -> int:
        """Number of running worker processes."""
        return sum(process.poll() is None for process in self.processes.values())

    def interrupt(self) -> None:
        """Sends SIGINT to every worker."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Sends SIGKILL to every worker and waits for their end."""
        self._signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()

    def _start(self, slot: int) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.slots[slot], ADDRESS: self.launch.storage}
        with self._log(slot).open("wb") as log:
            self.processes[slot] = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _log(self, slot: int) -> Path:
        return self.logs / f"worker-{platform.node()}-{slot}.log"  # several machines may share the folder

    def _signal(self, number: int) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(process.pid, number)


def slots(launch: Launch) -> list[dict[str, str]]:
    """The environment of each worker, which pins it to its device, or to the `devices` of a trial."""
    settings = launch.sweep.engine
    here, each = gpus() if launch.accelerator != "cpu" else [], settings.get("devices", 1)
    count = launch.workers or settings.get("workers")
    if here:
        shares = [",".join(here[first : first + each]) for first in range(0, len(here) - each + 1, each)]
        pinned = [{"CUDA_VISIBLE_DEVICES": share} for _ in range(settings.get("per_gpu", 1)) for share in shares]
        if (count or 1) > len(pinned):
            raise UserError(
                f"{len(here)} GPUs have room for {len(pinned)} workers with {each} each, not for {count or 1}: start "
                "fewer, or raise engine.per_gpu"
            )
        return pinned[: count or len(pinned)]
    return [one_core()] * (count or max(1, len(os.sched_getaffinity(0)) // each))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1].rstrip(".") if lines else "it said nothing"
