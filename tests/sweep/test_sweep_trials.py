"""Real trials: trained, pruned, recorded and told by validation images alone."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna import Study, TrialPruned, create_trial
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from torch import Tensor

import vaebench as vb
from vaebench.cli import main
from vaebench.data.digits import Digits
from vaebench.errors import UserError
from vaebench.leaderboard import leaderboard
from vaebench.records import read_record, read_records
from vaebench.records.validation import Validation, read_validation
from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.lock import study_lock
from vaebench.sweep.storage.queue import Outcome, count_states, mend, take
from vaebench.sweep.storage.study import connect, create_study, default_storage
from vaebench.sweep.workers.held_out import HeldOut, held_out
from vaebench.sweep.workers.population import TrialPopulation, work_population
from vaebench.sweep.workers.trial import PruningCallback, TrialRunner
from vaebench.sweep.workers.worker import Interruption, work
from vaebench.training.experiment import experiment
from vaebench.training.solo import train


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Puts back what workers in this process do with signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


ROOT = Path(__file__).parents[2]
TEXT = f"""
sweep: tiny
configs: [{ROOT}/configs/data/digits.yaml, {ROOT}/configs/family/beta_vae.yaml]
overrides: {{trainer.max_epochs: 3, model.latent: 3, trainer.accelerator: cpu}}
space: {{model.beta: {{float: [0.1, 10], log: true}}}}
sampler: {{name: random}}
stop: {{trials: 2}}
protocol: {{k: 5, limit: 40}}
heartbeat: 60
"""
Started = tuple[Sweep, RDBStorage, Study, TrialRunner]


def _start(folder: Path, more: str = "") -> Started:
    (folder / "tiny.yaml").write_text(TEXT + more)
    sweep = read_sweep(folder / "tiny.yaml")
    storage = connect(sweep, default_storage(sweep, folder / "results"))
    return (
        sweep,
        storage,
        create_study(sweep, storage, resume=False),
        TrialRunner(sweep, folder / "results", folder / "work"),
    )


def _run(started: Started) -> tuple[Outcome, Any]:
    """One trial, trained and recorded but not told."""
    sweep, storage, study, trainings = started
    trial, point = take(sweep, storage, study)
    with Heartbeat(storage, trial) as heart:
        return trainings(trial, point, heart), (trial, point)


def test_a_sweep_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker process, records that the leaderboard reads, the refusal to begin twice, resuming, status, the page."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TEXT + "pruner: asha\n")
    folders = [f"--results={tmp_path}/results", f"--work={tmp_path}/work"]
    assert main(["sweep", str(file), "--workers=1", *folders]) == 0
    out = capsys.readouterr().out
    assert "tiny: 2 settings were tried" in out
    assert len(re.findall(r"^trial \d .*beta=.*(done|pruned)$", out, re.MULTILINE)) == 2
    assert main(["sweep", str(file), *folders]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(["sweep", str(file), "--resume", *folders]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 settings tried: " in out
    assert re.search(r"^best: trial \d, beta=", out, re.MULTILINE)
    assert not re.search(r"^trial", out, re.MULTILINE), "nothing was left to do"
    assert main(["sweep", "status", str(file), *folders]) == 0
    assert "2 of 2 settings tried" in capsys.readouterr().out
    records = read_records(tmp_path / "results")
    assert {record.benchmark for record in records} == {"tiny"}
    assert all(re.fullmatch(r"t00\d beta=[\d.]+", record.variant) for record in records)
    assert all(record.variant.startswith(f"t00{record.cost['trial']} ") for record in records)
    assert records[0].variant in leaderboard(tmp_path / "results")
    assert "| tiny | beta_vae | " in leaderboard(tmp_path / "results", budget="trials")
    page = (tmp_path / "results" / "tiny" / "report.html").read_text()
    assert "Best: trial" in page
    asked_for = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)", page)
    assert asked_for == ["../plotly.min.js"], "it needs no network"
    assert (tmp_path / "results" / "plotly.min.js").is_file()
    assert not [path for path in (tmp_path / "work").rglob("*") if path.suffix != ".log" and path.is_file()]


def test_a_sweep_of_which_no_trial_succeeds_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: it ended with exit code 0."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TEXT.replace("trainer.max_epochs: 3", "trainer.max_epochs: 3, model.lr: 1.0e+300"))
    assert main(["sweep", str(file), "--workers=1", f"--results={tmp_path}/results", f"--work={tmp_path}/work"]) == 2
    error = capsys.readouterr().err
    assert "no trial of tiny came to an end (Diverged: " in error


def test_a_trials_record_is_that_of_the_same_command_by_hand(tmp_path: Path) -> None:
    started = _start(tmp_path)
    outcome, (_, point) = _run(started)
    (record,) = read_records(tmp_path / "results")
    job = experiment(started[0].arguments(point, 0))
    by_hand = train(job, tmp_path / "hand")
    curve = torch.load(by_hand, weights_only=True)["vaebench"]["curves"]["val/elbo"]["value"]
    assert curve[-1] == record.held_out("val/elbo")
    measured = vb.evaluate(vb.load(by_hand), HeldOut(Digits("binary")), "refined_quick", k=5, limit=40)
    assert outcome.values == [measured.metrics["log_likelihood"].value], "what boards rank, on validation images"
    assert read_validation(record) == Validation(
        {"val/log_likelihood": "maximise"}, {"val/log_likelihood": outcome.values[0]}
    )
    assert record.config == job.plain
    assert outcome.records == [record.path.name if record.path else None]


class Watched(Digits):
    """Digits that note which images are asked for, and whose test images are blank."""

    asked: list[str]

    def images(self, split: str) -> Tensor:
        self.asked = [*vars(self).get("asked", []), split]
        return torch.zeros_like(super().images(split)) if split == "test" else super().images(split)

    def some(self, split: str, index: Tensor) -> Tensor:
        self.asked = [*vars(self).get("asked", []), split]
        return torch.zeros_like(super().some(split, index)) if split == "test" else super().some(split, index)


def test_nothing_that_selects_reads_the_test_images(tmp_path: Path) -> None:
    sweep, *_ = started = _start(
        tmp_path, "objectives: {rate: minimise, distortion: minimise}\nconstraints: [active_units >= 1]"
    )
    outcome, _ = _run(started)
    directory = tmp_path / "results" / "tiny" / outcome.records[0]
    data = Watched("binary")
    figures = held_out(sweep, read_record(directory), data)
    assert set(data.asked) == {"val"}
    assert [figures["val/rate"], figures["val/distortion"]] == outcome.values
    model, x = vb.load(directory / "model.ckpt"), Digits("binary").images("val")[:40]
    rate = torch.distributions.kl_divergence(model.posterior(x), model.prior()).mean().detach()
    assert figures["val/rate"] == pytest.approx(float(rate), rel=1e-5)
    assert outcome.constraints == {"active_units >= 1": 1 - figures["val/active_units"]}


def test_seeds_are_trained_apart_and_combined(tmp_path: Path) -> None:
    started = _start(tmp_path, "seeds: [0, 3]\nobjectives: {val/elbo: maximise}\n")
    outcome, _ = _run(started)
    records = read_records(tmp_path / "results")
    assert sorted(record.seed for record in records) == [0, 3]
    assert len({record.variant for record in records}) == 1, "seeds of one row in the leaderboard"
    bounds = [record.curves["val/elbo"]["value"][-1] for record in records]
    assert outcome.values == [pytest.approx(sum(bounds) / 2)]
    assert len(set(bounds)) == 2


def test_a_trial_that_is_worse_than_the_others_is_pruned_and_leaves_nothing(tmp_path: Path) -> None:
    started = _start(tmp_path, "pruner: {name: median, startup: 2}\n")
    sweep, storage, study, trainings = started
    for _ in range(2):
        study.add_trial(
            create_trial(
                params={"model.beta": 1.0},
                distributions={"model.beta": FloatDistribution(0.1, 10, log=True)},
                values=[-1.0],
                intermediate_values=dict.fromkeys((1, 2, 3), -1.0),
            )
        )
    sweep.stop["trials"] = 3
    trial, point = take(sweep, storage, study)
    with Heartbeat(storage, trial) as heart, pytest.raises(TrialPruned):
        trainings(trial, point, heart)
    assert list(study.trials[2].intermediate_values) == [1], "at the first epoch at which it may be"
    assert not list((tmp_path / "work").rglob("*.ckpt"))
    assert not list((tmp_path / "results").rglob("record.json"))


WARMING = "{class_path: Linear, init_args: {length: 25}}"  # it ends within the third epoch


@pytest.mark.parametrize("engine", ["local", "population"])
def test_a_trial_that_still_warms_up_is_neither_pruned_nor_compared_with(tmp_path: Path, engine: str) -> None:
    """Defect: bounds in the middle of a warm-up were reported, judged, and others judged by them."""
    more = f"pruner: {{name: median, startup: 1}}\nengine: {{name: {engine}}}\nstop: {{trials: 2}}\n"
    (tmp_path / "tiny.yaml").write_text(
        TEXT.replace("stop: {trials: 2}\n", more).replace(
            "max_epochs: 3,", f"max_epochs: 4, model.schedule: {WARMING},"
        )
    )
    sweep = read_sweep(tmp_path / "tiny.yaml")
    storage = connect(sweep, default_storage(sweep, tmp_path / "results"))
    study = create_study(sweep, storage, resume=False)
    study.add_trial(
        create_trial(
            params={"model.beta": 1.0},
            distributions={"model.beta": FloatDistribution(0.1, 10, log=True)},
            values=[-1.0],
            intermediate_values=dict.fromkeys(range(1, 5), -1.0),
        )
    )
    if engine == "local":
        runner = TrialRunner(sweep, tmp_path / "results", tmp_path / "work")
        work(sweep, storage, study, runner, Interruption(), lambda: True)
    else:
        population = TrialPopulation(sweep, tmp_path / "results", tmp_path / "work", "cpu")
        work_population(sweep, storage, study, population, Interruption(), lambda: True)
    for trial in study.trials[1:]:
        assert (trial.state, list(trial.intermediate_values)) == (TrialState.PRUNED, [3])


def test_a_trial_whose_worker_died_after_its_record_finds_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = _start(tmp_path)
    outcome, (trial, _) = _run(started)
    started[2].tell(trial, state=TrialState.FAIL)  # as a dead worker's trial ends
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "results" / "tiny").glob("*/*")}
    monkeypatch.setattr("vaebench.sweep.workers.trial.train", lambda *_: pytest.fail("it trained again"))
    again, _ = _run(started)
    assert again == outcome
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "results" / "tiny").glob("*/*")}


def test_a_disk_that_is_full_at_the_record_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(tmp_path)
    sweep, storage, study, trainings = started

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfileobj", full)
        with pytest.raises(OSError, match="No space left"):
            work(sweep, storage, study, trainings, Interruption(), lambda: True)
    assert not list((tmp_path / "results").rglob("record.json"))
    assert not [path for path in (tmp_path / "results").rglob("*") if path.name.endswith(".partial")]
    trained = (tmp_path / "work" / "tiny" / "trial-0-s0" / "model.ckpt").read_bytes()
    sweep.stop["trials"] = 1
    monkeypatch.setattr("vaebench.sweep.workers.trial.train", lambda *_: pytest.fail("it trained again"))
    work(sweep, storage, study, trainings, Interruption(), lambda: True)
    (record,) = read_records(tmp_path / "results")
    assert record.path
    assert (record.path / "model.ckpt").read_bytes() == trained
    with study_lock(storage, study):
        assert count_states(mend(storage, study)) == {"RETRIED": 1, "COMPLETE": 1}
    assert not list((tmp_path / "work" / "tiny").iterdir())


def test_an_interrupted_trial_goes_on_where_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(tmp_path)
    sweep, storage, study, trainings = started
    monkeypatch.setattr("vaebench.training.keeper.Keeper.EVERY", 0.0)
    sweep.stop["trials"] = 1
    stopped: list[int] = []
    original = PruningCallback.on_validation_end

    def interrupted(self: Any, trainer: Any, module: Any) -> None:
        original(self, trainer, module)
        if trainer.current_epoch == 1 and not stopped:
            stopped.append(1)
            raise KeyboardInterrupt

    monkeypatch.setattr(PruningCallback, "on_validation_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(sweep, storage, study, trainings, Interruption(), lambda: True)
    assert study.trials[0].user_attrs["interrupted"]
    work(sweep, storage, study, trainings, Interruption(), lambda: True)
    (record,) = read_records(tmp_path / "results")
    whole = train(experiment(sweep.arguments(study.trials[1].params, 0)), tmp_path / "whole")
    curves = torch.load(whole, weights_only=True)["vaebench"]["curves"]
    assert record.curves == curves, "as if it had not been interrupted"
    assert study.trials[1].user_attrs["retry_of"] == 0


def test_a_trial_that_cannot_be_built_says_why_and_the_sweep_goes_on(tmp_path: Path) -> None:
    sweep, storage, study, trainings = _start(tmp_path)

    def run(trial: Any, point: dict[str, Any], heart: Heartbeat) -> Outcome:
        if trial.number == 0:
            raise UserError("too wide")
        return trainings(trial, point, heart)

    work(sweep, storage, study, run, Interruption(), lambda: True)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert "too wide" in study.trials[0].user_attrs["error"]


def test_a_sweep_whose_hours_end_before_a_trial_did_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its trials were given back, and --resume goes on with them; nothing in the file is to be mended."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TEXT.replace("stop: {trials: 2}", "stop: {trials: 2, hours: 1.0e-9}"))
    assert main(["sweep", str(file), "--workers=1", f"--results={tmp_path}/results", f"--work={tmp_path}/work"]) == 0
    assert "hours are over; add --resume to go on" in capsys.readouterr().out
