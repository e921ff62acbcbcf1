"""A SLURM of one machine: sbatch, srun, scontrol, scancel, squeue and sacct, as far as sweeps use them.

`install` makes the commands links to this file. A job runs under a supervisor that starts its script, sends signals to
all processes of its step as SLURM's containers do, and starts it again where it was requeued. What clusters do to jobs
tests do by `preempt`, `expire` and `lose`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scontrol", "scancel", "squeue", "sacct")
ROOT, STEP = "FAKE_SLURM", "FAKE_SLURM_STEP"  # the folder of jobs; a step's job
GRACE, POLL = 15.0, 0.1  # seconds from SIGTERM to SIGKILL, and between looks
EVENTS = ("preempt", "expire", "lose", "requeue", "cancel")


def install(folder: Path) -> dict[str, str]:
    """Makes the commands in a folder; returns the environment in which they are found and keep their jobs."""
    commands, jobs = folder / "bin", folder / "jobs"
    commands.mkdir(parents=True)
    jobs.mkdir()
    for name in COMMANDS:
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} {name} "$@"\n')
        script.chmod(0o755)
    return {"PATH": f"{commands}:{os.environ['PATH']}", ROOT: str(jobs)}


class Cluster:
    """A test's view of the jobs.

    Args:
        environment: of `install`.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.root = Path(environment[ROOT])

    def jobs(self, *states: str) -> list[int]:
        """Numbers of jobs in some states, or of all."""
        return [number for number, job in _jobs(self.root) if not states or _state(job) in states]

    def job_of(self, pid: int) -> int | None:
        """The job to whose step a process belongs."""
        with suppress(OSError):
            if found := re.search(rf"{STEP}=(\d+)", Path(f"/proc/{pid}/environ").read_text()):
                return int(found[1])
        return None

    def restarts(self) -> int:
        """Number of times that jobs were started again."""
        return sum(int((job / "restarts").read_text()) for _, job in _jobs(self.root))

    def cause(self, event: str, number: int) -> None:
        """Preempts a job (SIGTERM, a grace, and the queue; `requeue` without a grace), lets its time run out (SIGUSR2,
        then the end), or loses its node."""
        assert event in EVENTS
        (self.root / str(number) / event).touch()

    def close(self) -> None:
        """Cancels all jobs, and waits for their end."""
        for number in self.jobs("PENDING", "RUNNING"):
            self.cause("lose", number)
        while self.jobs("PENDING", "RUNNING"):
            time.sleep(0.05)


def _jobs(root: Path) -> list[tuple[int, Path]]:
    return sorted((int(path.name), path) for path in root.iterdir() if (path / "state").exists())


def _state(job: Path) -> str:
    return (job / "state").read_text()


def _become(job: Path, state: str) -> None:
    (job / "new").write_text(state)
    (job / "new").rename(job / "state")


def _name(job: Path) -> str:
    """As sacct has it: 7, or 7_0 of an array."""
    about = json.loads((job / "about.json").read_text())
    return about["array"] if about["task"] is None else f"{about['array']}_{about['task']}"


def _named(name: str) -> list[Path]:
    root = Path(os.environ[ROOT])
    return [job for number, job in _jobs(root) if name in (str(number), _name(job), _name(job).partition("_")[0])]


# The commands --------------------------------------------------------------------------------------------------------


def sbatch(words: list[str]) -> int:
    root, script = Path(os.environ[ROOT]), Path(words[-1]).read_text()
    assert script.startswith("#!"), "sbatch: error: This does not look like a batch script"
    lines = [shlex.split(line)[1:] for line in script.splitlines() if line.startswith("#SBATCH ")]
    options = dict(word.removeprefix("--").partition("=")[::2] for line in lines for word in line)
    assert Path(options["output"]).parent.is_dir(), "a job without a place for its output ends at once"
    tasks: list[int | None] = [None]
    if "array" in options:
        last = re.fullmatch(r"0-(\d+)(%\d+)?", options["array"])
        assert last, options["array"]
        tasks = list(range(int(last[1]) + 1))
    first = 1 + len(list(root.iterdir()))
    for index, task in enumerate(tasks):
        job = root / str(first + index)
        job.mkdir()
        (job / "script").write_text(script)
        (job / "restarts").write_text("0")
        about = {"array": str(first), "task": task, "options": options, "cwd": str(Path.cwd())}
        (job / "about.json").write_text(json.dumps(about))
        _become(job, "PENDING")
        command = [sys.executable, "-S", "-E", __file__, "supervise", str(job)]
        with (job / "supervisor.log").open("w") as log:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    print(f"Submitted batch job {first}")
    return 0


def srun(words: list[str]) -> int:
    options: dict[str, str] = {}
    while words[0].startswith("-"):
        key, _, value = words.pop(0).removeprefix("--").partition("=")
        options[key] = value or (words.pop(0) if key in ("output", "error") else "")
    cpus = os.environ["SLURM_CPUS_PER_TASK"]
    assert options.get("cpus-per-task") == cpus, "since 22.05 a step has one core unless it is told"
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        step = {STEP: os.environ["SLURM_JOB_ID"], "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        out, error = (_opened(options.get(key), rank) for key in ("output", "error"))
        tasks.append(subprocess.Popen(words, env={**os.environ, **step}, stdout=out, stderr=error))
    codes = [task.wait() for task in tasks]
    return max(code if code >= 0 else 128 - code for code in codes)


def _opened(pattern: str | None, rank: int) -> int | None:
    return None if pattern is None else os.open(_filled(pattern, rank), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)


def _filled(pattern: str, rank: int = 0) -> str:
    given = os.environ
    array, task = given.get("SLURM_ARRAY_JOB_ID", ""), given.get("SLURM_ARRAY_TASK_ID", "")
    values = {"%A": array, "%a": task, "%j": given["SLURM_JOB_ID"], "%t": str(rank)}
    return re.sub("%[Aajt]", lambda found: values[found[0]], pattern)


def scontrol(words: list[str]) -> int:
    assert words[0] == "requeue", words
    for job in _named(words[1]):
        (job / "requeue").touch()
    return 0


def scancel(words: list[str]) -> int:
    for job in _named(words[0]):
        (job / "cancel").touch()
    return 0


def squeue(words: list[str]) -> int:
    assert words == ["--me", "--noheader", "--format=%i %k"], words
    for _, job in _jobs(Path(os.environ[ROOT])):
        if _state(job) in ("PENDING", "RUNNING"):
            print(_name(job), json.loads((job / "about.json").read_text())["options"].get("comment", "(null)"))
    return 0


def sacct(words: list[str]) -> int:
    assert words[:3] == ["-o", "JobID,State,NodeList", "--parsable2"], words
    print("JobID|State|NodeList")
    for name in words[4::2]:
        for job in _named(name):
            print(f"{_name(job)}|{_state(job)}|here")
    return 0


# A job ---------------------------------------------------------------------------------------------------------------


def supervise(words: list[str]) -> int:
    job = Path(words[0])
    while (end := _run(job)) is None:
        (job / "restarts").write_text(str(1 + int((job / "restarts").read_text())))
        _become(job, "PENDING")
    _become(job, end)
    return 0


def _run(job: Path) -> str | None:
    """Runs a job once; returns its final state, or None where it is to start again."""
    about = json.loads((job / "about.json").read_text())
    options = about["options"]
    for event in EVENTS:
        (job / event).unlink(missing_ok=True)
    tasks = options.get("ntasks-per-node", "1")
    environment = {
        **os.environ, "SLURM_JOB_ID": job.name, "SLURM_JOB_NAME": options["job-name"], "SLURM_NTASKS": tasks,
        "SLURM_NTASKS_PER_NODE": tasks, "SLURM_CPUS_PER_TASK": options["cpus-per-task"], "SLURM_NODEID": "0",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here", "SLURM_RESTART_COUNT": (job / "restarts").read_text(),
    }  # fmt: skip
    if about["task"] is not None:
        environment |= {"SLURM_ARRAY_JOB_ID": about["array"], "SLURM_ARRAY_TASK_ID": str(about["task"])}
    os.environ.update(environment)
    with Path(about["cwd"], _filled(options["output"])).open("ab") as log:
        command = ["/bin/bash", str(job / "script")]
        batch = subprocess.Popen(
            command, env=environment, cwd=about["cwd"], stdout=log, stderr=log, start_new_session=True
        )
        _become(job, "RUNNING")
        state = _watched(job, batch, "requeue" in options)
    _kill(job, batch)
    batch.wait()
    return state


def _watched(job: Path, batch: subprocess.Popen[bytes], requeues: bool) -> str | None:
    """Waits for the end of a job's script, or ends it; as `_run`."""
    while True:
        if (job / "lose").exists():
            _kill(job, batch)
            return "NODE_FAIL"
        if (job / "cancel").exists():
            _end(job, batch)
            return "CANCELLED"
        if (job / "requeue").exists():
            _end(job, batch)
            return None
        if (job / "preempt").exists() and not _ends_when(job, batch, signal.SIGTERM):
            return None if requeues or (job / "requeue").exists() else "PREEMPTED"
        if (job / "expire").exists() and not _ends_when(job, batch, signal.SIGUSR2):
            return None if (job / "requeue").exists() else "TIMEOUT"
        if (code := batch.poll()) is not None:
            return "FAILED" if code else "COMPLETED"
        time.sleep(POLL)


def _ends_when(job: Path, batch: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Warns the steps of a job; whether it then ended by itself. A job that asked to be queued again is ended."""
    for pid in _step(job):
        _send(pid, number)
    end = time.monotonic() + GRACE
    while batch.poll() is None and not (job / "requeue").exists() and time.monotonic() < end:
        time.sleep(POLL)
    if batch.poll() is not None and not (job / "requeue").exists():
        return True
    _end(job, batch)
    return False


def _end(job: Path, batch: subprocess.Popen[bytes]) -> None:
    """SIGTERM to everything, and SIGKILL to what remains."""
    for pid in [*_step(job), batch.pid]:
        _send(pid, signal.SIGTERM)
    end = time.monotonic() + GRACE
    while (_step(job) or batch.poll() is None) and time.monotonic() < end:
        time.sleep(POLL)
    _kill(job, batch)


def _kill(job: Path, batch: subprocess.Popen[bytes]) -> None:
    """SIGKILL to everything: a slow `scontrol requeue` of the script would queue its successor again."""
    for pid in [*_step(job), batch.pid]:
        _send(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(batch.pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _step(job: Path) -> list[int]:
    """All processes of a job's step, wherever they moved: a container's, not a process group's."""
    mark, found = f"{STEP}={job.name}\0".encode(), []
    place = f"{ROOT}={os.environ[ROOT]}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (process / "environ").read_bytes() + b"\0"
            if mark in environment and place in environment and b") Z" not in (process / "stat").read_bytes():
                found.append(int(process.name))
    return found


if __name__ == "__main__":
    sys.exit({**{name: globals()[name] for name in COMMANDS}, "supervise": supervise}[sys.argv[1]](sys.argv[2:]))
