"""Engines: each worker on its own device, on this machine and on others, and no trial lost with a machine."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fake_slurm import Cluster, install
from fake_studies import NOOP, _alive, _check
from noop_sweep import GATE, noop_file
from optuna import Study
from postgres import Server
from rich.console import Console

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.sweep.driver import drive
from vaebench.sweep.engines import Launch, Workers, local, slurm, start
from vaebench.sweep.engines._remote import Command, RemoteWorkers
from vaebench.sweep.show.terminal import LiveTable
from vaebench.sweep.spec.engine import engine_settings, engines
from vaebench.sweep.spec.spec import read_sweep
from vaebench.sweep.storage.study import connect, create_study, default_storage, load_study

ROOT = Path(__file__).parents[2]


def _launch(folder: Path, storage: str = "", engine: str = "{name: local}", **more: Any) -> Launch:
    file = noop_file(folder)
    file.write_text(file.read_text().replace("{name: local, workers: 2}", engine))
    sweep = read_sweep(file)
    return Launch(sweep, storage or default_storage(sweep, folder), folder, folder / "work", **more)


def _noop(launch: Launch, seconds: float) -> Command:
    file = launch.sweep.source.path
    return Command([sys.executable, str(NOOP), "worker", str(file), str(launch.results), str(seconds)])


def _drive(launch: Launch, workers: Workers) -> tuple[str, Study]:
    storage = connect(launch.sweep, launch.storage)
    study = create_study(launch.sweep, storage, resume=True)
    with LiveTable(launch.sweep, study, Console(file=io.StringIO())) as board:
        reason = drive(launch.sweep, storage, study, workers, board)
    return reason, study


def test_every_engine_declares_its_settings() -> None:
    assert set(engines()) >= {"local", "ray", "slurm"}
    for name in engines():
        assert set(engine_settings(name).values()) <= {int, float, str, list}


@pytest.mark.parametrize(
    ("engine", "workers", "expected"),
    [
        ("{name: local}", None, ["0", "1", "2", "3"]),
        ("{name: local, per_gpu: 2}", None, ["0", "1", "2", "3", "0", "1", "2", "3"]),
        ("{name: local, devices: 2}", None, ["0,1", "2,3"]),
        ("{name: local, devices: 3}", None, ["0,1,2"]),
        ("{name: local, workers: 3}", None, ["0", "1", "2"]),
        ("{name: local, workers: 3}", 2, ["0", "1"]),
    ],
)
def test_each_worker_sees_its_own_gpus(
    engine: str, workers: int | None, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "gpus", lambda: ["0", "1", "2", "3"])
    slots = local.slots(_launch(tmp_path, engine=engine, workers=workers))
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == expected


@pytest.mark.parametrize(("engine", "workers"), [("{name: local}", 5), ("{name: local, devices: 5}", None)])
def test_more_workers_than_gpus_have_room_for_are_refused(
    engine: str, workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "gpus", lambda: ["0", "1", "2", "3"])
    with pytest.raises(UserError, match="4 GPUs have room for"):
        local.slots(_launch(tmp_path, engine=engine, workers=workers))


def test_cpu_workers_have_one_thread_each_and_no_gpu(tmp_path: Path) -> None:
    slots = local.slots(_launch(tmp_path, accelerator="cpu"))
    assert len(slots) == len(os.sched_getaffinity(0))
    assert all(slot["OMP_NUM_THREADS"] == "1" and slot["CUDA_VISIBLE_DEVICES"] == "" for slot in slots)


def test_a_worker_that_cannot_go_on_ends_the_sweep_with_its_words(tmp_path: Path) -> None:
    launch = _launch(tmp_path, workers=1)
    words = [sys.executable, "-c", "import sys; sys.exit('No space left on device')"]
    with pytest.raises(UserError, match="a worker ended: No space left on device"):
        _drive(launch, local.LocalWorkers(launch, words))
    job = [RemoteHandle(Command(words)())]
    with pytest.raises(UserError, match="a worker ended: No space left on device"):
        _drive(launch, RemoteWorkers(1, lambda _: list(job)))


class RemoteHandle:
    """A job that has ended."""

    def __init__(self, outcome: tuple[int, str] | None) -> None:
        self.outcome = outcome

    def done(self) -> bool:
        return True

    def result(self) -> tuple[int, str] | None:
        return self.outcome

    def cancel(self, now: bool) -> None:
        raise AssertionError("it has ended")


def test_workers_that_die_at_once_are_not_started_for_ever(tmp_path: Path) -> None:
    launch = _launch(tmp_path, workers=1)
    words = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with pytest.raises(UserError, match=r"workers were lost in 0\.0 hours"):
        _drive(launch, local.LocalWorkers(launch, words))
    with pytest.raises(UserError, match="workers were lost"):
        _drive(launch, RemoteWorkers(1, lambda n: [RemoteHandle(None)] * n))


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_other_machines_need_a_server(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SQLite is for one"):
        start(_launch(tmp_path, engine=f"{{name: {name}}}"))


def test_a_dry_run_shows_what_sbatch_would_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(
        f"configs: [{ROOT}/configs/data/digits.yaml, {ROOT}/configs/family/beta_vae.yaml]\n"
        "space: {model.beta: {float: [0.1, 10]}}\nstop: {trials: 4}\n"
        "engine: {name: slurm, workers: 3, minutes: 90, gpus: 2, memory: 8G, partition: night}\n"
    )
    address = "--storage=postgresql://me:secret@db/sweeps"
    assert main(["sweep", str(file), "--dry-run", address, f"--work={tmp_path}/w", f"--results={tmp_path}/r"]) == 0
    text = capsys.readouterr().out
    for line in ("--array=0-2", "--time=90", "--gpus-per-node=2", "--mem=8G", "--partition=night", "--requeue"):
        assert f"#SBATCH {line}" in text
    assert f"-m vaebench.sweep.workers.solo {file} --results={tmp_path}/r --work={tmp_path}/w" in text
    assert "secret" not in text, "it travels in the environment"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ("gres: 'gpu:a100:2', constraint: a100, account: me, qos: low", ["--gres=gpu:a100:2", "--constraint=a100"]),
        ("devices: 4, cpus: 16", ["--gpus-per-node=4", "--cpus-per-task=16"]),
        ("per_gpu: 3, cpus: 4", ["--gpus-per-node=1", "--ntasks-per-node=3"]),
        ("setup: [module load cuda]", ["module load cuda"]),
        ("members: 8", ["vaebench.sweep.workers.population"]),
    ],
)
def test_settings_reach_slurm(settings: str, lines: list[str], tmp_path: Path) -> None:
    launch = _launch(tmp_path, "postgresql://me@db/sweeps", f"{{name: slurm, {settings}}}")
    text = slurm.preview(launch)
    assert all(line in text for line in lines)
    assert ("--gpus-per-node" in text) is ("gres" not in settings)
    assert f"srun --cpus-per-task={launch.sweep.engine.get('cpus', 2)} " in text
    assert "export VAEBENCH_STORAGE=postgresql://me@db/sweeps" in text


def test_the_comment_of_jobs_says_nothing_of_the_password(tmp_path: Path) -> None:
    """Defect: it was a digest of the whole address, and squeue shows it to all."""
    addresses = ("postgresql://me:secret@db/sweeps", "postgresql://me:other@db/sweeps", "postgresql://me@db/more")
    marks = [slurm.parameters(_launch(tmp_path, address, "{name: slurm}"))["comment"] for address in addresses]
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.parametrize("settings", ["setup: module load cuda", "setup: [1]", "members: 2, devices: 2", "gres: 2"])
def test_settings_that_slurm_cannot_take_are_refused(settings: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 6"):
        _launch(tmp_path, engine=f"{{name: slurm, {settings}}}")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    environment = install(tmp_path / "slurm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.setenv(GATE, str(tmp_path / "gate"))
    monkeypatch.chdir(tmp_path)
    cluster = Cluster(environment)
    yield cluster
    cluster.close()


def _disturb(cluster: Cluster, results: Path, events: list[str]) -> Thread:
    """Causes events in turn, each for a job that is at a trial; trials end after them."""

    def disturb() -> None:
        struck = set[int]()
        for event in events:
            while not (free := {pid: job for pid in _alive(results) - struck if (job := cluster.job_of(pid))}):
                time.sleep(0.05)
            pid = min(free)
            struck.add(pid)
            cluster.cause(event, free[pid])
        (results / "gate").touch()

    thread = Thread(target=disturb, daemon=True)
    thread.start()
    return thread


def _undamaged(study: Study) -> bool:
    """Whether every trial that came back had been returned by its worker."""
    return all(trial.user_attrs.get("kills", 0) == 0 for trial in study.trials)


def test_the_dry_run_text_is_a_script_that_sbatch_runs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody begins the study or watches: jobs that are preempted, or whose time runs out, return to the queue."""
    monkeypatch.delenv("VAEBENCH_STORAGE", raising=False)
    launch = _launch(tmp_path, engine="{name: slurm, workers: 2, setup: [export FROM_SETUP=1]}")  # on one machine
    monkeypatch.setattr(slurm, "worker", lambda launch: _noop(launch, 0.0))
    (tmp_path / "job.sh").write_text(text := slurm.preview(launch))
    assert '$SLURM_JOB_ID"' not in text, (
        "defect: the number of one task is the array's, whose tasks were all queued again"
    )
    subprocess.run(["sbatch", "job.sh"], check=True)
    thread = _disturb(cluster, tmp_path, ["preempt", "expire", "requeue"])
    while cluster.jobs("PENDING", "RUNNING"):
        time.sleep(0.05)
    thread.join()
    assert cluster.jobs("COMPLETED") == [1, 2], [path.read_text() for path in tmp_path.glob("*.log")]
    assert cluster.restarts() == 3
    study = load_study(launch.sweep, connect(launch.sweep, launch.storage))
    _check(study, tmp_path, 12)
    assert _undamaged(study)


def test_jobs_of_the_engine_come_back_from_preemption_time_out_and_a_lost_node(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = _launch(tmp_path, engine="{name: slurm, workers: 2, per_gpu: 1}")
    monkeypatch.setattr(slurm, "worker", lambda launch: _noop(launch, 0.0))
    monkeypatch.setattr(slurm, "require_server", lambda _: None)  # the cluster is this machine
    monkeypatch.setattr(slurm, "ASK", 0.2)
    monkeypatch.setattr(slurm, "VISIBLE", 0.2)
    workers = start(launch)
    assert isinstance(workers, RemoteWorkers)
    workers.tend(2)
    with pytest.raises(UserError, match=r"^\d+_0, \d+_1 of noop are in SLURM's queue .* `scancel \d+_0 \d+_1`"):
        start(launch)  # defect: a driver that resumed a sweep submitted a second array beside the first
    start(replace(launch, storage=f"{launch.storage}?mode=rw"))
    thread = _disturb(cluster, tmp_path, ["preempt", "expire", "requeue", "lose"])
    reason, study = _drive(launch, workers)
    thread.join()
    assert reason == "12 settings were tried"
    assert workers.losses.lost == 1, "that of the node"
    assert cluster.restarts() >= 2
    _check(study, tmp_path, 12)


def test_jobs_through_submitit_finish_the_sweep_though_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On submitit's own executor for one machine, as SLURM would run them."""
    import submitit

    launch = _launch(tmp_path)
    monkeypatch.setattr(slurm, "worker", lambda launch: _noop(launch, 0.3))
    monkeypatch.setenv("VAEBENCH_STORAGE", launch.storage)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    executor = submitit.LocalExecutor(folder=tmp_path / "jobs")
    executor.update_parameters(timeout_min=5)

    def kill() -> None:
        while not _alive(tmp_path):
            time.sleep(0.05)
        os.kill(min(_alive(tmp_path)), signal.SIGKILL)

    killer = Thread(target=kill, daemon=True)
    killer.start()
    reason, study = _drive(launch, RemoteWorkers(2, lambda count: slurm.submit(executor, launch, count)))
    killer.join()
    assert reason == "12 settings were tried"
    _check(study, tmp_path, 12)


def test_a_preempted_job_is_queued_again() -> None:
    command = Command(["true"])
    assert command.checkpoint().function is command
    assert command() == (0, "it said nothing")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_node_that_is_lost_gives_its_trials_to_another(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    from vaebench.sweep.engines import ray as engine

    memory = {"object_store_memory": 80 * 2**20}
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.2", **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, node_ip_address=f"127.0.0.{3 + i}", **memory) for i in range(2)]
    ray.init(address=cluster.address, logging_level=40, log_to_driver=False)
    try:
        launch = _launch(tmp_path, server.address, engine="{name: ray}")
        monkeypatch.setattr(engine, "worker", lambda launch: _noop(launch, 1.0))

        def lose() -> None:
            while len(list(tmp_path.glob("noop/*/record.json"))) < 2:
                time.sleep(0.05)
            cluster.remove_node(nodes[0], allow_graceful=False)

        loser = Thread(target=lose, daemon=True)
        loser.start()
        reason, study = _drive(launch, start(launch))
        loser.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert reason == "12 settings were tried"
    _check(study, tmp_path, 12)
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
