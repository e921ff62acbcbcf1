"""Loggers: a run is told as it is recorded, none of them changes or loses one, and what they write can be read back."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_records import write_board
from helpers import bits, small
from lightning import Callback, LightningModule, Trainer
from logged_runs import BENCHMARK, ONE, VAE, _points
from optuna.trial import TrialState
from sweep_texts import TEXT as TOGETHER

from vaebench.cli import main
from vaebench.loggers import Log, Logbook, RunDescription, of_record, of_training
from vaebench.loggers.figures import logged_figures
from vaebench.records import RunRecord, read_records
from vaebench.running.bench import Engine, bench
from vaebench.running.benchmark import read_benchmark
from vaebench.running.pictures import PicturesCallback, drawn
from vaebench.sweep.engines import Launch
from vaebench.sweep.spec.spec import read_sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.queue import take
from vaebench.sweep.storage.study import connect, create_study, default_storage
from vaebench.sweep.workers.population import TrialPopulation, work_population
from vaebench.sweep.workers.trial import TrialRunner
from vaebench.sweep.workers.worker import conclude
from vaebench.training.experiment import experiment
from vaebench.training.models import read_checkpoint
from vaebench.training.solo import train

ROOT = Path(__file__).parents[2]
SWEEP = TOGETHER.replace("engine: {name: population, members: 2}\n", "")


class Heard:
    """A sink that remembers, and fails where it is told to."""

    def __init__(self, about: RunDescription, fails: str = "") -> None:
        self.about, self.fails = about, fails
        self.points: list[tuple[int, dict[str, float]]] = []
        self.drawn: list[tuple[int, dict[str, Any]]] = []
        self.records: list[RunRecord] = []
        self.checkpoints: list[Path] = []
        self.outcomes: list[str] = []

    def _perhaps(self, what: str) -> None:
        if what == self.fails:
            raise RuntimeError(f"no {what} today")

    def point(self, step: int, values: Mapping[str, float]) -> None:
        self._perhaps("point")
        self.points.append((step, dict(values)))

    def pictures(self, step: int, pictures: Mapping[str, Any]) -> None:
        self.drawn.append((step, dict(pictures)))

    def checkpoint(self, path: Path) -> None:
        assert path.is_file()
        self.checkpoints.append(path)

    def record(self, record: RunRecord) -> None:
        self._perhaps("record")
        self.records.append(record)

    def close(self, outcome: str) -> None:
        self._perhaps("close")
        self.outcomes.append(outcome)


class Listening(Logbook):
    """A logbook whose logs end in `Heard` sinks."""

    def __init__(self, fails: str = "") -> None:
        super().__init__()
        self.heard: list[Heard] = []

        def listen(about: RunDescription) -> Heard:
            if fails == "open":
                raise RuntimeError("no open today")
            self.heard.append(Heard(about, fails))
            return self.heard[-1]

        self._open = listen


def _bench(folder: Path, logbook: Logbook | None, engine: Engine = "solo", text: str = BENCHMARK) -> list[RunRecord]:
    (folder / "tiny.yaml").write_text(text)
    for _ in bench(read_benchmark(folder / "tiny.yaml"), folder / "results", folder / "work", False, engine, logbook):
        pass
    return list(read_records(folder / "results"))


@pytest.mark.parametrize("engine", ["solo", "population"])
def test_every_run_of_a_benchmark_is_told_as_it_is_recorded(tmp_path: Path, engine: Engine) -> None:
    book = Listening()
    records = {record.variant: record for record in _bench(tmp_path, book, engine)}
    assert sorted(sink.about.config["variant"] for sink in book.heard) == ["beta", "vae"]
    for sink in book.heard:
        record = records[sink.about.config["variant"]]
        assert sink.points == _points(record.curves)
        assert sink.records == [record]
        assert sink.outcomes == ["finished"]
        later = of_record(record)
        assert sink.about == replace(later, job="bench", tags=(*later.tags[:-1], "bench")), "the same run by its id"
    again = Listening()
    assert len(_bench(tmp_path, again, engine)) == 2
    assert not again.heard, "what is recorded was told"


@pytest.fixture(scope="module")
def unlogged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Folders of the records that a benchmark of one run writes without a logger."""
    return {record.path.name for record in _bench(tmp_path_factory.mktemp("unlogged"), None, text=ONE) if record.path}


@pytest.mark.parametrize("fails", ["open", "point", "record", "close"])
def test_a_logger_that_fails_loses_no_record_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unlogged: set[str], fails: str
) -> None:
    records = _bench(tmp_path, Listening(fails), text=ONE)
    assert {record.path.name for record in records if record.path} == unlogged, "no part of a run's identity"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vaebench: ")]
    assert f"no {fails} today" in line


class Stop(Callback):
    """Ends the training in its third epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("stop")


def test_an_interrupted_run_is_told_from_its_beginning_when_it_goes_on(tmp_path: Path) -> None:
    args = [*VAE, "--trainer.max_epochs=4"]
    with pytest.raises(RuntimeError, match="stop"):
        train(experiment(args), tmp_path, None, [Stop()])
    sink = Heard(of_training_example())
    train(experiment(args), tmp_path, None, Log(sink).callbacks)
    assert [step for step, _ in sink.points] == [11, 22, 33, 44]
    assert sink.points == _points(read_checkpoint(tmp_path / "model.ckpt")["vaebench"]["curves"])


def test_every_point_is_told_once() -> None:
    sink = Heard(of_training_example())
    log = Log(sink)
    curve = {"val/elbo": {"step": [1.0, 2.0, 3.0], "value": [-3.0, -2.0, -1.0]}}
    log.history(curve)
    log.history(curve)
    curve["val/elbo"]["step"].append(4.0)
    curve["val/elbo"]["value"].append(-0.5)
    log.history(curve)
    assert [step for step, _ in sink.points] == [1, 2, 3, 4]


def of_training_example(*more: str) -> RunDescription:
    job = experiment([*VAE, "--seed_everything=3", *more])
    return of_training(job, job.build()[1], "fit")


def test_runs_of_one_group_differ_in_nothing_but_the_seed() -> None:
    first, same, other = (
        of_training_example(a) for a in ("--model.lr=0.001", "--seed_everything=4", "--model.lr=1e-2")
    )
    assert first.group == same.group != other.group
    assert len({first.id, same.id, other.id}) == 3


def test_a_runs_name_place_and_settings() -> None:
    about = of_training_example()
    assert about.name == "vae latent=3-s3"
    assert about.group == f"digits/{about.config['setting']}"
    assert about.tags == ("vae", "digits", "fit")
    assert about.config["model/latent"] == 3
    assert about.config["model/posterior"] == "DiagonalGaussian"
    assert about.config["model/posterior/net/width"] == 200
    assert about.config["seed"] == 3
    assert not [value for value in about.config.values() if isinstance(value, dict)], "it is flat"


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (["--model=beta_vae", "--model.latent=50", "--model.beta=2.5"], "beta_vae beta=2.5-s3"),
        (["--model=beta_vae", "--model.latent=50", "--model.beta=1", "--model.lr=0.01"], "beta_vae beta=1 lr=0.01-s3"),
        (["--model=iwae", "--model.k=8"], "iwae k=8 latent=3-s3"),
    ],
)
def test_the_name_of_a_fit_has_beta_and_what_is_not_a_default(more: list[str], name: str) -> None:
    assert of_training_example(*more).name == name


def test_interruption_failure_and_end_are_told_apart() -> None:
    for error, outcome in ((KeyboardInterrupt, "interrupted"), (ValueError, "failed"), (None, "finished")):
        sink = Heard(of_training_example())
        log = Log(sink)
        with nullcontext() if error is None else pytest.raises(error), log:
            if error is not None:
                raise error
        log.close("failed")
        assert sink.outcomes == [outcome], "the first end counts"


def test_other_processes_of_a_training_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    book = Listening()
    with book.open(of_training_example()) as log:
        log.history({"val/elbo": {"step": [1], "value": [2.0]}})
        assert log.callbacks == []
    assert not book.heard


def _sweep(folder: Path, text: str) -> tuple[Any, Any, Any]:
    (folder / "tiny.yaml").write_text(text)
    sweep = read_sweep(folder / "tiny.yaml")
    storage = connect(sweep, default_storage(sweep, folder / "results"))
    return sweep, storage, create_study(sweep, storage, resume=False)


def test_trials_are_runs_of_their_own_and_a_pruned_one_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, storage, study = _sweep(tmp_path, SWEEP + "stop: {trials: 2}\n")
    book = Listening()
    trainings = TrialRunner(sweep, tmp_path / "results", tmp_path / "work", logbook=book)
    for index in range(2):
        taken = take(sweep, storage, study)
        assert taken is not None
        if index:
            monkeypatch.setattr("vaebench.sweep.workers.pruning.PruningCallback.report", lambda *_: True)
        with Heartbeat(storage, taken[0]) as heart:
            conclude(study, taken[0], lambda taken=taken, heart=heart: trainings(*taken, heart))  # type: ignore[misc]
    first, second = book.heard
    (record,) = read_records(tmp_path / "results")
    assert first.points == _points(record.curves)
    assert first.outcomes == ["finished"]
    assert second.outcomes == ["pruned"]
    assert first.about.group == f"tiny/{record.variant}"
    assert {"beta_vae", "digits", "tiny", "sweep"} == set(first.about.tags)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_members_of_a_populations_sweep_are_runs_of_their_own(tmp_path: Path) -> None:
    sweep, storage, study = _sweep(tmp_path, TOGETHER + "stop: {trials: 2}\n")
    book = Listening()
    population = TrialPopulation(sweep, tmp_path / "results", tmp_path / "work", "cpu", book)
    work_population(sweep, storage, study, population, SimpleNamespace(came=False), lambda: True)  # type: ignore[arg-type]
    records = {record.variant: record for record in read_records(tmp_path / "results")}
    assert len(book.heard) == len(records) == 2
    for sink in book.heard:
        assert sink.points == _points(records[sink.about.config["variant"]].curves)
        assert sink.outcomes == ["finished"]


def test_workers_of_a_sweep_are_told_which_logger(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SWEEP + "stop: {trials: 2}\n")
    launch = Launch(read_sweep(tmp_path / "tiny.yaml"), "sqlite:///x", tmp_path, tmp_path, logger="wandb:me/vaes")
    assert "--logger=wandb:me/vaes" in launch.command("worker")
    assert not [word for word in replace(launch, logger=None).command("together") if "logger" in word]


def _rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_csv_files_hold_the_curves_and_the_figures(tmp_path: Path) -> None:
    (record,) = write_board(tmp_path / "results", {"vae": 0.0}, seeds=1)
    for _ in range(2):  # the second takes the place of the first
        with Logbook("csv", tmp_path).open(of_record(record)) as log:
            log.record(record)
    (file,) = (tmp_path / "csv").rglob("metrics.csv")
    rows = _rows(file)
    told = [(int(row["step"]), float(row["val/elbo"])) for row in rows if row["val/elbo"]]
    assert told == list(zip(*record.curves["val/elbo"].values(), strict=True))
    numbers = {name: value for name, value in logged_figures(record).items() if isinstance(value, int | float)}
    last = {name: row[name] for row in rows for name in numbers if row[name]}
    assert {n: float(v) if v not in ("True", "False") else v == "True" for n, v in last.items()} == numbers


def test_tensorboards_files_hold_the_curves(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    (record,) = write_board(tmp_path / "results", {"vae": 0.0}, seeds=1)
    with Logbook("tensorboard", tmp_path).open(of_record(record)) as log:
        log.record(record)
    (file,) = [path for path in (tmp_path / "tensorboard").rglob("events*") if path.parent.name.startswith("vae-s0")]
    raw, at, told, images = file.read_bytes(), 0, [], set()
    while at < len(raw):  # an event's length, a checksum, the event, a checksum
        length = int(np.frombuffer(raw[at : at + 8], "<u8")[0])
        event = Event.FromString(raw[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            if value.tag == "val/elbo":
                told.append((event.step, value.simple_value))
            elif value.HasField("image"):
                images.add(value.tag)
    assert told == [(s, pytest.approx(v, rel=1e-6)) for s, v in zip(*record.curves["val/elbo"].values(), strict=True)]
    assert images == {"pictures/reconstructions", "pictures/samples"}


def test_fit_takes_a_logger_and_lightnings_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["fit", *VAE, "--trainer.max_epochs=2"]
    own = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}/b", "--trainer.log_every_n_steps=1"]
    assert main([*fit, f"--out={tmp_path}/a", "--logger=csv"]) == 0
    assert main([*fit, f"--out={tmp_path}/b", *own]) == 0
    first, _, _, second, *_ = capsys.readouterr().out.splitlines()
    assert Path(first).parent.name == Path(second).parent.name, "the same run by its identity"
    ours, lightnings = (next((tmp_path / folder).rglob("metrics.csv")) for folder in ("a", "b"))
    for name in ("val/elbo", "train/elbo"):
        figures = [[row[name] for row in _rows(file) if row[name]] for file in (ours, lightnings)]
        assert figures[0] == figures[1], "means over an epoch's images"
        assert len(figures[0]) == 2
    batches = [row["step/elbo"] for row in _rows(lightnings) if row["step/elbo"]]
    assert len(batches) > 2, "those of single batches have a name of their own"


@pytest.mark.parametrize("logger", ["CSVLogger", "lightning.pytorch.loggers.TensorBoardLogger"])
def test_lightnings_loggers_need_no_folder_of_their_own(tmp_path: Path, logger: str) -> None:
    """Defect: the documented --trainer.logger=CSVLogger was refused for want of its save_dir."""
    fit = ["fit", *VAE, "--trainer.max_epochs=1", "--trainer.log_every_n_steps=5", f"--out={tmp_path}"]
    assert main([*fit, f"--trainer.logger={logger}"]) == 0
    kind = "metrics.csv" if logger == "CSVLogger" else "events.out.tfevents.*"
    assert list((tmp_path / "lightning_logs" / "version_0").glob(kind))


class Missing:
    """What Lightning finds where MLflow is not installed."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "Requirement 'mlflow>=1.0.0' not met. HINT: Try running `pip install -U 'mlflow>=1.0.0'`"


def test_a_logger_of_lightnings_that_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", Missing())
    assert main(["fit", *VAE, f"--out={tmp_path}", "--trainer.logger=MLFlowLogger"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    needs = "MLFlowLogger needs the package 'mlflow', which is not installed; `pip install mlflow` does that"
    assert line == f"vaebench: {needs}"


def test_a_point_every_so_many_steps_has_learning_rate_speed_and_the_gradients_length(tmp_path: Path) -> None:
    sink = Heard(of_training_example())
    args = [*VAE, "--trainer.max_epochs=2", "--trainer.log_every_n_steps=4", "--model=factor_vae"]
    train(experiment(args), tmp_path, None, Log(sink).callbacks)
    points = [(step, values) for step, values in sink.points if "step/lr_critic" in values]
    assert [step for step, _ in points] == [4, 8, 12, 16, 20]
    for _, values in points:
        assert values["step/images_per_second"] > 0
        assert values["step/gradient_norm_model"] > 0
        assert values["step/gradient_norm_critic"] > 0
    curves = read_checkpoint(tmp_path / "model.ckpt")["vaebench"]["curves"]
    assert [point for point in sink.points if point not in points] == _points(curves), "nothing of it is recorded"


def test_pictures_are_drawn_while_training_where_asked_and_change_nothing(tmp_path: Path) -> None:
    args, weights = [*VAE, "--trainer.max_epochs=4"], []
    sink = Heard(of_training_example())
    for folder, every in (("a", None), ("b", 2)):
        job = experiment(args)
        _, data = job.build()
        log = Log(sink)
        callbacks = [] if every is None else [*log.callbacks, PicturesCallback(log, data, every)]
        weights.append(read_checkpoint(train(job, tmp_path / folder, None, callbacks))["state_dict"])
    assert [step for step, _ in sink.drawn] == [22, 44]
    for _, pictures in sink.drawn:
        assert sorted(pictures) == ["reconstructions", "samples"]
        assert all(pixels.dtype == np.uint8 and pixels.ndim == 3 for pixels in pictures.values())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_pictures_without_a_logger_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *VAE, "--pictures=2"]) == 2
    assert "--pictures 2 has nowhere to go" in capsys.readouterr().err


def test_a_conditional_model_is_shown_by_its_labels_and_others_by_what_they_have() -> None:
    x = bits(40).float()
    assert sorted(drawn(small("cvae").float(), x, torch.arange(40) % 3)) == ["reconstructions"]
    assert drawn(small("cvae").float(), x, None) == {}


def test_the_gradients_length_is_that_before_clipping() -> None:
    model = small("vae", clip=1e-3)
    model.configure_optimizers()
    gauge = model.gauge_every(3)
    x, norms = bits(8), []
    for _ in range(6):
        twin = deepcopy(model)
        noise = torch.get_rng_state()
        twin.step(x, None, torch.tensor(0.0)).losses["model"].backward()
        norms.append(float(torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()))
        torch.set_rng_state(noise)
        model.learn(x, None)
    points = gauge.read()
    assert [step for step, _ in points] == [3, 6]
    assert [values["step/gradient_norm"] for _, values in points] == pytest.approx([norms[2], norms[5]])
    assert [values["step/lr"] for _, values in points] == pytest.approx([1e-3, 1e-3])
    assert gauge.read() == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fit", *VAE, "--logger=wanbd"], "unknown logger 'wanbd'; did you mean wandb"),
        (["fit", *VAE, "--logger=csv:x"], "unknown logger 'csv:x'"),
        (["fit", *VAE, "--logger=wandb:a/b/c"], "'a/b/c' is no project of Weights & Biases"),
    ],
)
def test_a_mistaken_logger_is_one_sentence(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("choice", ["wandb", "tensorboard"])
def test_a_logger_that_is_not_installed_says_what_to_install(
    choice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("local", "server"):
        __import__(f"vaebench.loggers.{module}")
        monkeypatch.setattr(sys.modules[f"vaebench.loggers.{module}"], "find_spec", lambda _: None)
    assert main(["fit", *VAE, f"--logger={choice}"]) == 2
    assert f"install vaebench[{choice}]" in capsys.readouterr().err


def test_figures_are_those_of_the_record_and_say_what_is_missing(tmp_path: Path) -> None:
    (record,) = write_board(tmp_path, {"vae": 0.0}, seeds=1)
    found = logged_figures(record)
    assert found["test/elbo"] == record.value("elbo")
    assert found["test/elbo_se"] == record.error("elbo")
    assert found["held_out/elbo"] == record.held_out("val/elbo") == record.curves["val/elbo"]["value"][-1]
    assert found["unavailable/ssim"] == "images are smaller than the window"
    assert not any(name.endswith("/ssim") and name.startswith("test") for name in found)
    assert found["collapse/verdict"] == "partial"
    json.dumps(found, allow_nan=False)
