"""The one rule by which a run is obtained: its record is read, or made of its checkpoint, or it is trained first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebench.errors import NO_MEMORY
from vaebench.evaluation import read_protocol
from vaebench.loggers import Log
from vaebench.records import CHECKPOINT, RECORD, read_record
from vaebench.records.claims import IMPORTED
from vaebench.running.bench import Ended, bench
from vaebench.running.benchmark import Benchmark, BenchmarkRun
from vaebench.running.run import Run
from vaebench.training.experiment import experiment
from vaebench.training.solo import train

ARGS = ["--data=digits", "--model=vae", "--model.latent=2", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
PROTOCOL = {"name": "likelihood", "k": 2, "limit": 20}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    return train(experiment(ARGS), tmp_path_factory.mktemp("trained")).parent


def _run(folder: Path, trained: Path, protocol: dict[str, Any] = PROTOCOL, reuses: bool = False) -> Run:
    identity = torch.load(trained / CHECKPOINT, weights_only=True)["vaebench"]["run"]
    name = f"vae-s0-{protocol['k']:08d}"
    return Run(identity, read_protocol(**protocol), folder / name, folder / "scratch", progress=False, reuses=reuses)


def _not_trained(_: Log) -> Path:
    pytest.fail("it trained")


def test_a_record_is_made_of_the_checkpoint_and_read_from_then_on(trained: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, trained)
    assert run.pending
    shutil.copytree(trained, run.scratch)
    assert not run.pending
    record = run.obtain(_not_trained)
    assert not run.scratch.exists()
    assert (run.directory / CHECKPOINT).read_bytes() == (trained / CHECKPOINT).read_bytes(), "the weights are kept"
    assert run.obtain(_not_trained) == record == read_record(run.directory)


@pytest.mark.parametrize("left", ["of another run", "damaged"])
def test_a_checkpoint_that_is_not_this_runs_is_trained_over(left: str, trained: Path, tmp_path: Path) -> None:
    """Defect: a benchmark's run whose checkpoint was damaged failed again at every call."""
    run = _run(tmp_path, trained)
    shutil.copytree(trained, run.scratch)
    if left == "damaged":
        (run.scratch / CHECKPOINT).write_bytes(b"half")
    else:
        content = torch.load(run.scratch / CHECKPOINT, weights_only=True)
        content["vaebench"]["run"] = "0" * 16
        torch.save(content, run.scratch / CHECKPOINT)
    calls = []

    def train(_: Log) -> Path:
        calls.append(1)
        return Path(shutil.copy(trained / CHECKPOINT, run.scratch))

    assert run.obtain(train).path == run.directory
    assert calls == [1]


def test_a_run_is_judged_by_another_protocol_without_training(trained: Path, tmp_path: Path) -> None:
    first = _run(tmp_path, trained)
    first.obtain(lambda _: trained / CHECKPOINT)
    other = _run(tmp_path, trained, {**PROTOCOL, "k": 3}, reuses=True)
    record = other.obtain(_not_trained)
    assert record.id != read_record(first.directory).id
    assert record.protocol["k"] == 3
    assert record.checkpoint == read_record(first.directory).checkpoint


@pytest.mark.parametrize("change", ["imported", "other weights", "no record"])
def test_only_weights_that_a_record_of_this_machine_measured_are_judged_anew(
    change: str, trained: Path, tmp_path: Path
) -> None:
    first = _run(tmp_path, trained)
    first.obtain(lambda _: trained / CHECKPOINT)
    if change == "imported":
        (first.directory / IMPORTED).write_text("{}")
    elif change == "no record":
        (first.directory / RECORD).unlink()
    else:
        content = torch.load(first.directory / CHECKPOINT, weights_only=True)
        next(iter(content["state_dict"].values())).add_(1)
        torch.save(content, first.directory / CHECKPOINT)
    assert _run(tmp_path, trained, {**PROTOCOL, "k": 3}, reuses=True).pending


@pytest.mark.parametrize("engine", ["solo", "population"])
def test_a_benchmark_changes_its_protocol_without_training(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(k: int) -> list[Ended]:
        benchmark = Benchmark("tiny", {**PROTOCOL, "k": k}, [BenchmarkRun("vae", 0, [*ARGS, "--seed_everything=0"])])
        return list(bench(benchmark, tmp_path / "results", tmp_path / "work", False, engine))

    (first,) = ended(2)
    monkeypatch.setattr("vaebench.running.bench.train", lambda *_: pytest.fail("it trained"))
    monkeypatch.setattr("vaebench.training.population.Population.add", lambda *_: pytest.fail("it trained"))
    (second,) = ended(3)
    assert not first.reason
    assert not second.reason
    assert first.place != second.place
    assert read_record(first.place).checkpoint == read_record(second.place).checkpoint


def test_a_member_that_cannot_be_evaluated_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: a checkpoint that was left, and whose evaluation failed, ended a population's benchmark."""
    trainings = [BenchmarkRun("vae", seed, [*ARGS, f"--seed_everything={seed}"]) for seed in (0, 1)]
    benchmark = Benchmark("tiny", PROTOCOL, trainings)
    folders = tmp_path / "results", tmp_path / "work"

    def fail(checkpoint: Path, directory: Path, *rest: Any) -> Any:
        if "-s0-" in directory.name:
            raise RuntimeError("no memory")
        return record_run(checkpoint, directory, *rest)

    from vaebench.running.run import record_run

    monkeypatch.setattr("vaebench.running.run.record_run", fail)
    for _ in range(2):  # trained in the first call, and left for the second
        ended = {one.training.seed: one for one in bench(benchmark, *folders, False, "population")}
        assert ended[0].reason == "RuntimeError: no memory"
        assert not ended[1].reason
    assert ended[1].before


def test_a_benchmark_without_memory_says_so_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: of K = 10³⁰ samples torch's traceback was printed, and stood in the note of the failure."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("vaebench.running.run.record_run", fail)
    benchmark = Benchmark("tiny", PROTOCOL, [BenchmarkRun("vae", 0, [*ARGS, "--seed_everything=0"])])
    (ended,) = bench(benchmark, tmp_path / "results", tmp_path / "work", False)
    assert ended.reason == NO_MEMORY
    assert "Traceback" not in capsys.readouterr().err
