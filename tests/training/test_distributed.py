"""Several processes train one model: the same one, with the bound that one process would report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ddp_process import MEANS, RUNS, main

from vaebench.records import read_records
from vaebench.sweep.spec.spec import read_sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import take
from vaebench.sweep.storage.study import connect, create_study, default_storage
from vaebench.sweep.workers.trial import TrialRunner

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parents[1] / "ddp_process.py"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process ended with, and what each of two did, which trained on the same batches."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    main(one)
    command = [sys.executable, *TORCHRUN, str(SCRIPT), str(two)]
    assert subprocess.run([*command, "1"], cwd=ROOT, capture_output=True).returncode != 0, "killed in epoch 1"
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    found = {
        folder.name[:3]: [json.loads(path.read_text()) for path in sorted(folder.glob("rank-*.json"))]
        for folder in (one, two)
    }
    assert [len(ranks) for ranks in found.values()] == [1, 2]
    return found


@pytest.mark.parametrize("name", RUNS)
def test_all_processes_end_with_the_same_weights(runs: dict[str, Any], name: str) -> None:
    """A family steps by itself, of which DDP's hooks do not hear: each rank had trained a model of its own."""
    first, second = (rank[name] for rank in runs["two"])
    assert first["weights"] == second["weights"]
    assert first["steps"] == runs["one"][0][name]["steps"] == [5, 7 if name == "cut" else 10]


@pytest.mark.parametrize("name", ["noiseless", *MEANS])
def test_two_processes_learn_what_one_does_on_the_same_batches(runs: dict[str, Any], name: str) -> None:
    """Without noise in the objective, up to the order of sums; several optimisers, and rounds that losses end, too."""
    one, two = runs["one"][0][name], runs["two"][0][name]
    assert two["kept"] == pytest.approx(one["kept"], rel=1e-4, abs=1e-4)
    assert two["curve"] == pytest.approx(one["curve"], rel=1e-5 if name in MEANS else 1e-6)


def test_two_processes_that_are_killed_and_resume_end_as_others(runs: dict[str, Any]) -> None:
    """Bit for bit: the second process began its noise anew, and the run ended at −26.2979 for −26.2735."""
    for rank in runs["two"]:
        assert rank["noisy, resumed"] == rank["noisy"]


def test_two_processes_report_the_bound_that_one_does(runs: dict[str, Any]) -> None:
    """The same weights, the same noise for each image: equal to 1e-5 nats."""
    assert runs["two"][0]["still"]["curve"] == pytest.approx(runs["one"][0]["still"]["curve"], abs=1e-5)


def test_a_trial_over_two_processes_reports_and_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two.yaml").write_text(
        f"configs: [{ROOT}/configs/data/digits.yaml, {ROOT}/configs/family/beta_vae.yaml]\n"
        "overrides: {trainer.max_epochs: 2, model.latent: 3, trainer.accelerator: cpu}\n"
        "space: {model.beta: {float: [0.1, 10], log: true}}\n"
        "stop: {trials: 1}\nprotocol: {k: 5, limit: 40}\nobjectives: {val/elbo: maximise}\n"
        "engine: {name: local, devices: 2}\n"
    )
    sweep = read_sweep(tmp_path / "two.yaml")
    address = default_storage(sweep, tmp_path / "results")
    storage = connect(sweep, address)
    study = create_study(sweep, storage, resume=False)
    monkeypatch.setenv("VAEBENCH_STORAGE", address)
    taken = take(sweep, storage, study)
    assert taken
    with Heartbeat(storage, taken[0]) as heart:
        outcome = TrialRunner(sweep, tmp_path / "results", tmp_path / "work")(*taken, heart)
    (record,) = read_records(tmp_path / "results")
    assert int(record.config["trainer"]["devices"]) == 2
    (trial,) = study.trials
    assert list(trial.intermediate_values.values()) == record.curves["val/elbo"]["value"], "each epoch, by one rank"
    assert outcome.values == [max(trial.intermediate_values.values())]
