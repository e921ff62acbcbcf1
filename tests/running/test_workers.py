"""A benchmark by several processes: the same records, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.files import alone_in
from vaebench.records import read_records
from vaebench.running import bench as module
from vaebench.running import workers
from vaebench.running.bench import bench
from vaebench.running.benchmark import Benchmark, BenchmarkRun
from vaebench.running.workers import bench_by_workers, worker_places

ARGS = ["--model.latent=2", "--trainer.accelerator=cpu"]
PROTOCOL = {"name": "likelihood", "k": 2, "limit": 20}


def _benchmark(epochs: int = 1, seeds: int = 2, lr: float = 1e-3) -> Benchmark:
    runs = [
        BenchmarkRun(name, seed, [
            "--data=digits", f"--model={name}", *ARGS, f"--model.lr={lr if name == 'vae' else 1e-3}",
            f"--trainer.max_epochs={epochs}", f"--seed_everything={seed}",
        ])
        for name in ("vae", "iwae")
        for seed in range(seeds)
    ]  # fmt: skip
    return Benchmark("tiny", PROTOCOL, runs)


def _weights(results: Path) -> dict[tuple[str, int], str]:
    return {(one.variant, one.seed): (one.checkpoint or {})["weights"] for one in read_records(results)}


def test_two_workers_make_the_records_of_one_process_and_one_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    benchmark = _benchmark()
    list(bench(benchmark, tmp_path / "one", tmp_path / "work", progress=False))
    runs = bench_by_workers(benchmark, tmp_path / "two", tmp_path / "works", 2)
    first = next(runs)
    staff = [child for child in workers.multiprocessing.active_children() if child.pid]
    assert len(staff) == 2
    assert all(child.pid != os.getpid() for child in staff)
    os.kill(staff[0].pid or 0, signal.SIGKILL)
    rest = list(runs)
    assert sorted((end.training.variant, end.training.seed) for end in [first, *rest]) == [
        ("iwae", 0), ("iwae", 1), ("vae", 0), ("vae", 1),
    ]  # fmt: skip
    assert not any(end.reason for end in [first, *rest])
    assert _weights(tmp_path / "two") == _weights(tmp_path / "one")
    assert not workers.multiprocessing.active_children()
    assert all(end.before for end in bench(benchmark, tmp_path / "two", tmp_path / "works", progress=False))


def test_a_run_that_diverges_is_told_once_and_stops_no_worker(tmp_path: Path) -> None:
    ends = list(bench_by_workers(_benchmark(epochs=4, seeds=1, lr=1e12), tmp_path / "r", tmp_path / "w", 2))
    reasons = {end.training.variant: end.reason for end in ends}
    assert len(ends) == 2
    assert reasons["iwae"] == ""
    assert reasons["vae"]


def test_what_no_run_can_be_made_of_is_answered_once(tmp_path: Path) -> None:
    benchmark = Benchmark("tiny", {**PROTOCOL, "name": "nonsense"}, _benchmark().runs)
    with pytest.raises(UserError, match="nonsense"):
        list(bench_by_workers(benchmark, tmp_path / "results", tmp_path / "work", 2))
    assert not workers.multiprocessing.active_children()


def test_a_run_that_another_process_trains_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls of one benchmark used to go through it side by side, each waiting for the other's run."""
    benchmark, order = _benchmark(), list[str]()
    held = alone_in(_scratch(benchmark, tmp_path))
    held.__enter__()

    def obtained(prepared: module.Prepared, *_: object) -> module.Ended:
        order.append(f"{prepared.training.variant} {prepared.training.seed}")
        if len(order) == 3:
            held.__exit__(None, None, None)  # the other process ends, with nothing to show
        return module.Ended(prepared.training, prepared.run.directory)

    monkeypatch.setattr(module, "_obtained", obtained)
    list(bench(benchmark, tmp_path / "results", tmp_path / "work", progress=False))
    assert order == ["vae 1", "iwae 0", "iwae 1", "vae 0"]


def _scratch(benchmark: Benchmark, folder: Path) -> Path:
    """The folder of the first run's unfinished files."""
    first = Benchmark(benchmark.name, benchmark.protocol, benchmark.runs[:1])
    builder = module.RunBuilder(first, folder / "results", folder / "work", False, module.Logbook(), time.time())
    return builder.prepare(first.runs[0], module.experiment(first.runs[0].args)).run.scratch


def test_a_run_that_failed_since_the_call_began_is_not_tried_by_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark, start = _benchmark(seeds=1), time.time() - 1

    def broken(*_: object) -> None:
        raise UserError("it broke")

    monkeypatch.setattr(module, "train", broken)
    assert [end.before for end in bench(benchmark, tmp_path, tmp_path / "w", progress=False)] == [False, False]
    again = list(bench(benchmark, tmp_path, tmp_path / "w", progress=False, since=start))
    assert [(end.before, end.reason) for end in again] == [(True, "it broke")] * 2
    later = list(bench(benchmark, tmp_path, tmp_path / "w", progress=False, since=time.time() + 1))
    assert [end.before for end in later] == [False, False], "a new call tries again"


@pytest.mark.parametrize(("count", "shares"), [(1, 8), (2, 4), (3, 2), (20, 1)])
def test_workers_share_the_cores(count: int, shares: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(workers, "gpus", list)
    assert [place["OMP_NUM_THREADS"] for place in worker_places(count)] == [str(shares)] * count
    assert {place["CUDA_VISIBLE_DEVICES"] for place in worker_places(count)} == {""}


def test_workers_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "gpus", lambda: ["4", "7"])
    assert [place["CUDA_VISIBLE_DEVICES"] for place in worker_places(3)] == ["4", "7", "4"]


@pytest.mark.parametrize(("options", "sentence"), [
    (["--workers=0"], "0 workers cannot run a benchmark"),
    (["--workers=2", "--engine=population"], "two ways to train several runs at once"),
])  # fmt: skip
def test_workers_that_cannot_be_are_refused(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "digits", f"--results={tmp_path}", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_on_several_devices_is_refused_before_any_worker_starts(tmp_path: Path) -> None:
    """Lightning starts the command again for each further device, and that command would start workers."""
    first = _benchmark().runs[0]
    runs = [BenchmarkRun("two", 0, [*first.args, "--trainer.devices=2"])]
    with pytest.raises(UserError, match="two trains on devices 2: expected one"):
        list(bench_by_workers(Benchmark("tiny", PROTOCOL, runs), tmp_path / "results", tmp_path / "work", 2))
    assert not workers.multiprocessing.active_children()
