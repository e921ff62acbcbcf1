"""Sweeps by the population engine: the trials that solo workers would run, told and recorded as theirs are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from optuna import Study, create_trial
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sweep_texts import TEXT

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.records import read_records
from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage.lock import study_lock
from vaebench.sweep.storage.queue import first, mend
from vaebench.sweep.storage.study import connect, create_study, default_storage
from vaebench.sweep.workers.population import TrialPopulation, work_population
from vaebench.training.experiment import experiment
from vaebench.training.population import Population
from vaebench.training.solo import train

ROOT = Path(__file__).parents[2]
Started = tuple[Sweep, RDBStorage, Study, Any]


def _start(folder: Path, more: str = "stop: {trials: 3}\n") -> Started:
    (folder / "tiny.yaml").write_text(TEXT + "objectives: {val/elbo: maximise}\n" + more)
    sweep = read_sweep(folder / "tiny.yaml")
    storage = connect(sweep, default_storage(sweep, folder / "results"))
    study = create_study(sweep, storage, resume=False)
    return sweep, storage, study, lambda: TrialPopulation(sweep, folder / "results", folder / "work", "cpu")


def _train(started: Started, population: TrialPopulation, interruption: Any = None) -> None:
    sweep, storage, study, _ = started
    work_population(sweep, storage, study, population, interruption or SimpleNamespace(came=False), lambda: True)


def _check(started: Started, folder: Path, engine: bool = True) -> None:
    """Every trial is complete, with the value of the same run alone, and recorded once."""
    sweep, _, study, _ = started
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    records = {record.path.name: record for record in read_records(folder / "results") if record.path}
    assert len(records) == len(complete) * len(sweep.seeds)
    for trial in complete:
        runs = [experiment(sweep.arguments(trial.params, seed)) for seed in sweep.seeds]
        files = [train(job, folder / "alone" / f"{trial.number}-{job.seed}") for job in runs]
        curves = [torch.load(file, weights_only=True)["vaebench"]["curves"]["val/elbo"]["value"] for file in files]
        assert trial.values == [pytest.approx(sum(curve[-1] for curve in curves) / len(curves), abs=1e-6)]
        assert [records[name].seed for name in trial.user_attrs["records"]] == sweep.seeds
        assert all(("engine" in records[name].config) is engine for name in trial.user_attrs["records"])
        assert list(trial.intermediate_values.values()) == pytest.approx(curves[0], abs=1e-6)
    assert not list((folder / "work").rglob("*.ckpt"))


def test_a_population_sweep_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TEXT + "stop: {trials: 3}\n")
    assert main(["sweep", str(tmp_path / "tiny.yaml"), f"--results={tmp_path}/results", f"--work={tmp_path}/work"]) == 0
    assert "tiny: 3 settings were tried" in capsys.readouterr().out
    assert len(read_records(tmp_path / "results")) == 3


def test_trials_equal_solo_runs_and_enter_where_there_is_room(tmp_path: Path) -> None:
    started = _start(tmp_path, "stop: {trials: 3}\nseeds: [0, 3]\n")
    population = started[3]()
    assert population.size == 2, "one trial of two seeds at a time"
    _train(started, population)
    assert [trial.state for trial in started[2].trials] == [TrialState.COMPLETE] * 3
    _check(started, tmp_path)


def test_a_pruned_trial_leaves_its_place_to_another(tmp_path: Path) -> None:
    started = _start(tmp_path, "stop: {trials: 6}\npruner: {name: median, startup: 2}\n")
    study = started[2]
    for bound in (-1.0, -1.0):
        study.add_trial(
            create_trial(
                params={"model.beta": 1.0},
                distributions={"model.beta": FloatDistribution(0.1, 10, log=True)},
                values=[bound],
                intermediate_values=dict.fromkeys((1, 2, 3), bound),
            )
        )
    _train(started, started[3]())
    assert [trial.state for trial in study.trials[2:]] == [TrialState.PRUNED] * 4
    assert all(list(trial.intermediate_values) == [1] for trial in study.trials[2:])
    assert not list((tmp_path / "work").rglob("*.ckpt"))
    assert not list((tmp_path / "results").rglob("record.json"))


def test_interrupted_trials_come_back_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(tmp_path, "stop: {trials: 2}\n")
    _, storage, study, make = started
    population, interruption = make(), SimpleNamespace(came=False)
    epoch = population.epoch

    def interrupted() -> Any:
        interruption.came = True
        return epoch()

    monkeypatch.setattr(population, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _train(started, population, interruption)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2
    with study_lock(storage, study):
        mend(storage, study)
    second = make()
    _train(started, second)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2 + [TrialState.COMPLETE] * 2
    _check(started, tmp_path)


def test_a_full_disk_gives_back_every_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = _start(tmp_path, "stop: {trials: 2}\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vaebench.training.population.Member.export", full)
    with pytest.raises(OSError, match="No space"):
        _train(started, started[3]())
    assert [trial.state for trial in started[2].trials] == [TrialState.FAIL] * 2
    assert all("interrupted" in trial.user_attrs for trial in started[2].trials)


def test_trials_that_cannot_join_train_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise UserError("it cannot")

    monkeypatch.setattr(Population, "add", refused)
    started = _start(tmp_path, "stop: {trials: 2}\n")
    _train(started, started[3]())
    assert capsys.readouterr().err.count("trains by itself: it cannot") == 2
    _check(started, tmp_path, engine=False)


def test_a_population_that_fails_fails_its_trials_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Population, "epoch", fail)
    started = _start(tmp_path, "stop: {trials: 2}\n")
    _train(started, started[3]())
    errors = [trial.user_attrs.get("error") for trial in started[2].trials]
    assert errors == [None] * 2 + ["RuntimeError: out of memory"] * 2, "together, and then each alone"


def test_a_trial_that_breaks_its_population_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an epoch raised used to be every trial's error."""
    started = _start(tmp_path, "stop: {trials: 3}\n")
    study, epoch = started[2], Population.epoch

    def fail(self: Population) -> object:
        if any("7.25" in repr(member.job.plain["model"]) for member in self.members):
            raise RuntimeError("out of memory")
        return epoch(self)

    study.enqueue_trial({"model.beta": 7.25})
    monkeypatch.setattr(Population, "epoch", fail)
    _train(started, started[3]())
    states = {first(trial): trial for trial in study.trials}  # the last of each
    assert [trial.state for trial in states.values()] == [TrialState.FAIL, *[TrialState.COMPLETE] * 2]
    assert [trial.user_attrs.get("error") for trial in states.values()] == ["RuntimeError: out of memory", None, None]
