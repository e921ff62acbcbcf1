"""What is measured is the model that was asked for: which weights a run ends with, and what its curves say."""

from __future__ import annotations

import inspect
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from fake_records import write_fake
from helpers import LAWFUL, bits, family_of, labels, small
from lightning import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

import vaebench as vb
from vaebench import schedules
from vaebench.core import Family
from vaebench.core.means import ImageMean, Means
from vaebench.errors import UserError
from vaebench.leaderboard import leaderboard
from vaebench.records.selection import Selection, parsed
from vaebench.schedules import Schedule
from vaebench.sweep.storage.pruners import Median
from vaebench.training import solo
from vaebench.training.experiment import experiment
from vaebench.training.history import TrainingHistory
from vaebench.training.keeper import Keeper
from vaebench.training.population import Population
from vaebench.training.population import member as members
from vaebench.training.silence import quiet_lightning
from vaebench.training.solo import train

RUN = ["--data=digits", "--data.batch_size=500", "--trainer.accelerator=cpu", "--model=beta_vae", "--model.latent=2"]
EPOCH = 3  # steps
STOP = ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/objective",
        "--trainer.callbacks.patience=1"]  # fmt: skip
GO_ON = ["--trainer.callbacks.check_finite=false", "--trainer.callbacks.patience=9"]
# A bound that rises, and falls when the pressure of the prior sets in.
PRESSURE = ["--data.measure=continuous", "--model.beta=1000", "--model.lr=0.01", "--model.schedule=MonotonicThenHold",
            "--model.schedule.wait=50", "--model.schedule.length=10"]  # fmt: skip


def info(checkpoint: Path) -> dict[str, Any]:
    return dict(torch.load(checkpoint, weights_only=True)["vaebench"])


def warm_up(length: float) -> list[str]:
    return ["--model.schedule=Linear", f"--model.schedule.length={length}"]


# When the objective has settled -----------------------------------------------------------------------------------

SCHEDULES = [cls for _, cls in inspect.getmembers(schedules, inspect.isclass)
             if issubclass(cls, Schedule) and cls is not Schedule]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cls", SCHEDULES)
def test_a_schedule_is_constant_from_its_end_on_and_not_before(cls: type[Schedule], dtype: torch.dtype) -> None:
    schedule = cls().to(dtype)
    end = schedule.end
    at = [float(schedule(torch.tensor(end * part, dtype=dtype))) for part in (1.0, 1.5, 10.0)]
    assert at == [1.0] * 3
    before = [float(schedule(torch.tensor(end * part, dtype=dtype))) for part in (0.1, 0.3, 0.5, 0.9)]
    assert min(before) < 1 or end == 0


STAGED = {"capacity": 9.0, "length": 40.0, "pretrain": 40.0, "stage": 40.0}  # settings that take steps


@pytest.mark.parametrize("name", LAWFUL)
def test_an_objective_that_has_settled_depends_on_the_step_no_more_and_before_it_does(name: str) -> None:
    accepted = inspect.signature(family_of(name)).parameters
    chosen = {key: value for key, value in STAGED.items() if key in accepted}
    if "schedule" in accepted:
        chosen["schedule"] = {"class_path": "vaebench.schedules.Linear", "init_args": {"length": 40}}
    model, x = small(name, **chosen), bits(8)
    settled = model.settled()
    if settled == math.inf:
        assert family_of(name).settled is not Family.settled, "it says so itself"
        return

    def found(t: float) -> torch.Tensor:
        step = torch.tensor(t, dtype=torch.float64)
        active = {} if name == "encoder_steps_vae" else model.active(step)  # whose turns come round for ever
        torch.manual_seed(0)
        objective = model.objective(x, labels(len(x)), step)
        torch.manual_seed(0)
        losses = model.step(x, labels(len(x)), step).losses
        return torch.stack([objective, *losses.values(), *(value.to(objective) for value in active.values())]).detach()

    assert torch.allclose(found(settled), found(10 * settled + 100), rtol=1e-12)
    if chosen:
        assert settled > 0
        assert not torch.allclose(found(settled), found(settled / 2), rtol=1e-9)


def test_stages_and_schedules_that_follow_one_another_add_up() -> None:
    schedule = {"class_path": "vaebench.schedules.MonotonicThenHold", "init_args": {"wait": 5, "length": 7}}
    assert small("pretrained_vae", pretrain=10, schedule=schedule).settled() == 22


def test_an_objective_that_follows_its_training_never_settles() -> None:
    assert small("geco").settled() == small("soft_free_bits_vae").settled() == math.inf
    assert small("geco", speed=0).settled() == 0
    aggressive = small("aggressive_vae")
    assert aggressive.settled() == math.inf
    aggressive.aggressive.zero_()
    assert aggressive.settled() == 0


# Which weights are kept -------------------------------------------------------------------------------------------


def test_where_pressure_grows_the_weights_measured_are_the_last_and_not_the_least_regularised(tmp_path: Path) -> None:
    """Defect: the best β = 1 bound selected a snapshot from the middle of the warm-up."""
    checkpoint = train(experiment([*RUN, *PRESSURE, "--trainer.max_epochs=20"]), tmp_path)
    found = info(checkpoint)
    bound = found["curves"]["val/elbo"]
    assert max(bound["value"]) > bound["value"][-1] + 1, "the case that deceived"
    assert found["selection"] == f"last weights, step {20 * EPOCH} of {20 * EPOCH}"
    assert found["config"]["model"]["init_args"]["keep"] == "last"
    assert _bound(checkpoint) == pytest.approx(bound["value"][-1], abs=1e-3)


def test_the_best_are_those_of_the_best_held_out_objective_since_every_schedule_ended(tmp_path: Path) -> None:
    run = [*RUN, "--model.lr=0.1", "--model.keep=best", *warm_up(10), "--trainer.max_epochs=8"]
    checkpoint = train(experiment(run), tmp_path)
    found = info(checkpoint)
    curve, bound = found["curves"]["val/objective"], found["curves"]["val/elbo"]
    allowed = {step: value for step, value in zip(*curve.values(), strict=True) if step >= 10}
    best = max(allowed, key=allowed.__getitem__)
    assert found["selection"] == str(Selection("best", best, 8 * EPOCH, 12))
    assert parsed(found["selection"]) == Selection("best", best, 8 * EPOCH, 12)
    assert _bound(checkpoint) == pytest.approx(dict(zip(*bound.values(), strict=True))[best], abs=1e-3)


def _bound(checkpoint: Path) -> float:
    """The β = 1 bound of a checkpoint's weights on the validation images, as training measures it."""
    model = vb.load(checkpoint)
    data = vb.datasets()["digits"](model.data.measure, batch_size=500)
    total = count = 0.0
    for index, (x, y) in enumerate(data.val_dataloader()):
        with torch.no_grad():
            found = model.held_out(x, y, torch.tensor(model.final), Family.VALIDATION_SEED + index)
        total, count = total + float(found["val/elbo"]) * len(x), count + len(x)
    return total / count


def test_a_run_that_ends_before_its_schedules_measures_its_last_weights_and_warns(tmp_path: Path) -> None:
    run = [*RUN, "--model.keep=best", *warm_up(1000), "--trainer.max_epochs=2"]
    found = info(train(experiment(run), tmp_path))
    assert found["selection"] == f"last weights, step {2 * EPOCH} of {2 * EPOCH}"
    assert "ended at step 6, before its schedules do at step 1000" in found["warnings"][0]
    assert "where model.keep is best" in found["warnings"][1]


def test_the_setting_is_part_of_a_runs_identity_and_the_default_is_the_last() -> None:
    def identity(*more: str) -> str:
        job = experiment([*RUN, *more])
        return job.identity(job.build()[1])

    assert identity() == identity("--model.keep=last")
    assert identity() != identity("--model.keep=best")


def test_members_of_a_population_keep_what_their_solo_runs_keep(tmp_path: Path) -> None:
    runs = [[*RUN, "--trainer.precision=64-true", "--model.lr=0.1", f"--model.keep={keep}", *warm_up(length),
             "--trainer.max_epochs=5"] for keep, length in (("best", 5), ("last", 5), ("best", 9))]  # fmt: skip
    population = Population(lanes=3)
    members = [population.add(experiment(run), tmp_path / str(i)) for i, run in enumerate(runs)]
    assert len({member.structure for member in members}) == 1
    while population.epoch():
        pass
    for i, (member, run) in enumerate(zip(members, runs, strict=True)):
        own, alone = info(member.export()), info(train(experiment(run), tmp_path / f"solo{i}"))
        assert own["selection"] == alone["selection"]
        for name, curve in alone["curves"].items():
            assert own["curves"][name]["step"] == curve["step"]
            assert own["curves"][name]["value"] == pytest.approx(curve["value"], rel=1e-6)


@pytest.mark.parametrize("values", [[math.nan, -3.0, -2.0, -4.0], [-3.0, math.inf, -2.0, math.nan]])
def test_a_value_that_is_no_number_is_never_the_best(values: list[float]) -> None:
    """Defect: a NaN at the first validation was kept for ever, since nothing is greater."""
    model, kept = small("vae", keep="best"), TrainingHistory()
    for model.steps, value in enumerate(values, 1):
        kept.validated(model, {"val/objective": value})
    assert kept.chosen(model)[0] == Selection("best", 3, 4, 1)


def test_a_run_of_nan_does_not_claim_a_best() -> None:
    """Defect: it said 'best held-out bound, at step 11'."""
    model, kept = small("vae", keep="best"), TrainingHistory()
    for model.steps in (5, 11):
        kept.validated(model, {"val/objective": math.nan})
    selection, _, warnings = kept.chosen(model)
    assert str(selection) == "last weights, step 11 of 11"
    assert "never a finite number" in warnings[0]


# What the curves say ----------------------------------------------------------------------------------------------


def test_curves_hold_validations_only_where_there_were_any(tmp_path: Path) -> None:
    """Defect: epochs without a validation were given the bound of the one before."""
    found = info(train(experiment([*RUN, "--trainer.max_epochs=5", "--trainer.check_val_every_n_epoch=2"]), tmp_path))
    assert found["curves"]["val/elbo"]["step"] == found["curves"]["val/objective"]["step"] == [6, 12]
    assert found["curves"]["train/elbo"]["step"] == [3, 6, 9, 12, 15]
    assert found["selection"] == "last weights, step 15 of 15"


def test_a_run_without_validation_keeps_its_last_weights_and_says_so(tmp_path: Path) -> None:
    """Defect: it said 'best held-out log p(x|z), for want of a bound'."""
    run = [*RUN, "--model.keep=best", "--trainer.max_epochs=2", "--trainer.limit_val_batches=0"]
    found = info(train(experiment(run), tmp_path))
    assert found["selection"] == "last weights, step 6 of 6"
    assert not [name for name in found["curves"] if name.startswith("val/")]
    assert "where model.keep is best" in found["warnings"][0]


def test_training_figures_are_means_over_an_epochs_images_and_not_of_its_last_batch(tmp_path: Path) -> None:
    means, generator = Means(), torch.Generator().manual_seed(0)
    values, images = torch.rand(4, generator=generator), (10, 10, 10, 3)
    for value, n in zip(values, images, strict=True):
        means.add({"elbo": value, "rate": 2 * value}, n)
    mean = float((values * torch.tensor(images)).sum() / 33)
    assert {name: float(value) for name, value in means.take().items()} == pytest.approx(
        {"elbo": mean, "rate": 2 * mean}
    )
    assert means.take() == {}, "the next epoch begins anew"
    still = [*RUN, "--data.measure=discrete17", "--model.lr=0", "--trainer.max_epochs=2"]
    found = info(train(experiment(still), tmp_path))
    rate = found["curves"]["train/rate"]["value"]
    assert rate[0] == pytest.approx(rate[1], rel=1e-5), "the same images in another order: the rate has no noise"


def test_a_mean_over_images_keeps_its_weights_and_what_is_not_a_number() -> None:
    """torchmetrics' own drops NaN, or its weights."""
    mean = ImageMean()
    for value, images in ((1.0, 30), (4.0, 10)):
        mean.update(torch.tensor(value, dtype=torch.float64), images)
    assert mean.compute() == 1.75
    assert mean.compute().dtype == torch.float64, "float32 or wider"
    mean.reset()
    mean.update(torch.tensor([1.0, math.nan], dtype=torch.bfloat16), 3)
    mean.update(torch.tensor([2.0, 1.0], dtype=torch.bfloat16), 1)
    assert mean.compute().dtype == torch.float32
    assert mean.compute()[0] == 1.25
    assert mean.compute()[1].isnan()


class Witness(Callback):
    """What Lightning tells a callback at the ends of epochs, and what the batches of each said."""

    def __init__(self) -> None:
        self.told: dict[str, list[dict[str, float]]] = {"train/": [], "val/": []}
        self.logs: list[list[tuple[int, float]]] = []

    def _listen(self, trainer: Trainer, kind: str) -> None:
        metrics = trainer.callback_metrics
        self.told[kind].append({name: float(value) for name, value in metrics.items() if name.startswith(kind)})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.logs.append([])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._listen(trainer, "train/")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._listen(trainer, "val/")


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_steps": 5, "max_epochs": 9}])
def test_callbacks_are_told_the_means_over_an_epochs_images(limit: dict[str, int], monkeypatch: Any) -> None:
    """Defect: `callback_metrics` had the last batch's figure as that of training. max_steps may end an epoch early."""
    model, x, witness = small("vae"), bits(70), Witness()
    held_out: list[tuple[int, float]] = []
    learn, validate = type(model).learn, type(model).held_out

    def learnt(self: Any, x: Tensor, *others: Any) -> Any:
        found = learn(self, x, *others)
        witness.logs[-1].append((len(x), float(found.logs["elbo"].detach())))
        return found

    def hold(self: Any, x: Tensor, *others: Any) -> Any:
        found = validate(self, x, *others)
        held_out.append((len(x), float(found["val/elbo"].detach())))
        return found

    monkeypatch.setattr(type(model), "learn", learnt)
    monkeypatch.setattr(type(model), "held_out", hold)
    batches = DataLoader([*x.split(20)], batch_size=None, collate_fn=lambda part: (part, None))
    trainer = Trainer(accelerator="cpu", num_sanity_val_steps=0, logger=False, enable_progress_bar=False,
                      enable_model_summary=False, enable_checkpointing=False, callbacks=[witness], **limit)  # fmt: skip
    with quiet_lightning():
        trainer.fit(model, batches, batches)
    seen = [sum(n for n, _ in epoch) for epoch in witness.logs]
    assert seen == ([70, 70] if "max_steps" not in limit else [70, 20])
    expected = [sum(n * value for n, value in epoch) / total for epoch, total in zip(witness.logs, seen, strict=True)]
    assert [told["train/elbo"] for told in witness.told["train/"]] == pytest.approx(expected, rel=1e-6)
    assert isinstance(model.logged["train/elbo"], ImageMean)
    first = held_out[: len(batches)]
    bound = sum(n * value for n, value in first) / 70
    assert witness.told["val/"][0]["val/elbo"] == pytest.approx(bound, rel=1e-6)


# Early stopping ---------------------------------------------------------------------------------------------------


def test_early_stopping_waits_for_schedules_and_keeps_the_best(tmp_path: Path) -> None:
    """Defect: the bound falls while a warm-up raises β, and training stopped in its middle."""
    run = [*RUN, *PRESSURE, *STOP, "--trainer.callbacks.mode=max", "--trainer.callbacks.monitor=val/elbo"]
    found = info(train(experiment([*run, "--trainer.max_epochs=60"]), tmp_path))
    bound, settled = found["curves"]["val/elbo"], 60
    early = [value for step, value in zip(*bound.values(), strict=True) if step < settled]
    assert any(after < before for before, after in pairwise(early)), "the case that stopped it"
    assert settled < bound["step"][-1] < 60 * EPOCH
    assert found["config"]["model"]["init_args"]["keep"] == "best"
    assert found["selection"].endswith("selection began at step 60, when every schedule had ended")


@pytest.mark.parametrize("more", [[], ["--trainer.callbacks.mode=min"]])
def test_early_stopping_in_the_wrong_direction_is_refused(more: list[str]) -> None:
    with pytest.raises(UserError, match="monitors val/objective with mode min: expected max"):
        experiment([*RUN, *STOP, *more]).build()


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("number", ["patience", "min_delta"])
def test_early_stopping_by_a_negative_number_is_refused(number: str, mode: str) -> None:
    """Defect: patience −1 was taken for 1, and a negative min_delta called every fall an improvement."""
    monitor = {"max": "val/elbo", "min": "val/kl"}[mode]
    own = [f"--trainer.callbacks.mode={mode}", f"--trainer.callbacks.monitor={monitor}"]
    with pytest.raises(UserError, match=f"early stopping has {number} -1.*: expected at least 0"):
        experiment([*RUN, *STOP, *own, f"--trainer.callbacks.{number}=-1"]).build()


def test_early_stopping_by_what_nobody_measures_is_refused(tmp_path: Path) -> None:
    run = [*RUN, *STOP, "--trainer.callbacks.mode=max", "--trainer.callbacks.monitor=val/selection"]
    with pytest.raises(UserError, match="unknown monitor 'val/selection'; did you mean val/elbo or val/objective"):
        train(experiment(run), tmp_path)


def test_early_stopping_at_a_validation_of_nan_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: it ended a sound training after one such validation, with exit code 0 and without a word."""
    held_out = Family.held_out

    def blind(self: Family, *args: Any) -> dict[str, torch.Tensor]:
        return {
            name: value * (math.nan if self.steps == 2 * EPOCH else 1) for name, value in held_out(self, *args).items()
        }

    monkeypatch.setattr(Family, "held_out", blind)
    run = [*RUN, *STOP, "--trainer.callbacks.mode=max", "--trainer.max_epochs=4"]
    said = "where val/objective was nan: expected a finite number"
    with pytest.warns(UserWarning, match=f"early stopping ended training at step 6, {said}"):
        found = info(train(experiment(run), tmp_path / "solo"))
    assert ", step 3 of 6; " in found["selection"]
    assert [said in warning for warning in found["warnings"]] == [True]
    going = info(train(experiment([*run, *GO_ON]), tmp_path / "on"))
    assert going["curves"]["val/objective"]["step"] == [3, 6, 9, 12]
    population = Population(lanes=1)
    member = population.add(experiment(run), tmp_path / "member")
    population.epoch()
    with pytest.warns(UserWarning, match=said):
        member.ended({}, {"val/objective": math.nan}, 0.0, 0)
    assert member.done
    assert [said in warning for warning in info(member.export())["warnings"]] == [True]


@pytest.mark.parametrize("engine", ["solo", "population"])
def test_a_run_that_was_killed_after_it_had_stopped_early_does_not_train_on(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: what had stopped it was not saved, and a better epoch made it train on."""
    run = [*RUN, *STOP, "--trainer.callbacks.mode=max", "--trainer.callbacks.stopping_threshold=-1000"]
    monkeypatch.setattr(Keeper, "EVERY", 0.0)

    def killed(*_: object) -> Path:
        raise KeyboardInterrupt

    def trained() -> Path:
        if engine == "solo":
            return train(experiment(run), tmp_path)
        population = Population(lanes=1)
        member = population.add(experiment(run), tmp_path)
        while population.epoch():
            pass
        return member.export()

    with monkeypatch.context() as patch:
        patch.setattr(solo, "write_checkpoint", killed)
        patch.setattr(members, "write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            trained()
    assert info(trained())["curves"]["val/objective"]["step"] == [EPOCH]


# What records say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("last weights, step 7820 of 7820", Selection("last", 7820, 7820)),
        ("best held-out bound, at step 1564 of 7820", Selection("best", 1564, 7820)),
        ("best held-out log p(x|z), for want of a bound, at step 3 of 9", Selection("best", 3, 9)),
        ("best held-out bound, at step 2000", Selection("best", 2000, None)),
        (str(Selection("best", 12, 24, 10)), Selection("best", 12, 24, 10)),
        ("the third of five", None),
    ],
)
def test_sentences_of_old_and_new_records_say_which_weights(sentence: str, expected: Selection | None) -> None:
    assert parsed(sentence) == expected


def test_a_board_shows_the_step_that_was_measured_where_it_is_not_the_last(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_fake(tmp_path / "a", rng, variant="early", selection=str(Selection("best", 1564, 7820, 1564)))
    write_fake(tmp_path / "b", rng, variant="old", selection="best held-out bound, at step 391 of 7820")
    shown = leaderboard(tmp_path)
    assert "measured at step" not in shown.partition("early")[2]
    for cell, kind in (("1,564 of 7,820", "objective at its final settings"), ("391 of 7,820", "bound")):
        assert f"| {cell} [" in shown
        assert f"not the last weights but those of the best held-out {kind}" in shown
    write_fake(tmp_path / "last" / "c", rng, variant="whole", selection=str(Selection("last", 9, 9)))
    assert "measured at step" not in leaderboard(tmp_path / "last")


def test_a_sweep_judges_a_trial_by_the_weights_that_are_measured(tmp_path: Path) -> None:
    """Defect: it took the maximum over the curve, whichever weights the record measured."""
    curves = {"val/elbo": {"step": [10, 20, 30], "value": [-90.0, -95.0, -99.0]}}
    rng, chosen = np.random.default_rng(0), {"curves": curves, "variant": "a"}
    for at, (sentence, value) in enumerate(
        [(str(Selection("last", 30, 30)), -99.0), (str(Selection("best", 20, 30, 15)), -95.0),
         ("best held-out bound, at step 10 of 30", -90.0), (str(Selection("last", 40, 40)), None)]
    ):  # fmt: skip
        record = write_fake(tmp_path / str(at), rng, selection=sentence, **chosen)
        assert record.held_out("val/elbo") == value


def test_a_median_pruner_compares_at_the_same_epoch_and_not_the_best_so_far() -> None:
    study = optuna.create_study(direction="maximize", pruner=Median(1, n_warmup_steps=1))
    study.add_trial(optuna.trial.create_trial(value=-2.0, intermediate_values={1: -9.0, 2: -2.0}))
    trial = study.ask()
    trial.report(-1.0, 1)  # flattered, in the middle of its warm-up
    assert not trial.should_prune()
    trial.report(-8.0, 2)
    assert trial.should_prune()
