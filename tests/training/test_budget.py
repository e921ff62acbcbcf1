"""A run trains for what was asked, in batches learnt from; what does not hold is refused by name."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback

from vaebench.configuration.options import COSMETIC, COUNTED, PASSED, REFUSED
from vaebench.core import Family
from vaebench.errors import UserError
from vaebench.running.recording import weights_hash
from vaebench.training import solo
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.keeper import Keeper
from vaebench.training.models import load
from vaebench.training.population import Population
from vaebench.training.population.lane import Lane
from vaebench.training.solo import train
from vaebench.training.trainer import DEFAULTS, POPULATION, TrainingBudget

EPOCH = 11  # batches of 128 of the digits' 1,297 training images
BUDGETS = {
    "max_steps=17": 17,  # inside the second epoch, and inside a block
    "max_steps=11": 11,
    "max_steps=40 max_epochs=2": 22,
    "max_steps=5 max_epochs=2": 5,
    "max_steps=5 min_epochs=2": 5,
    "limit_train_batches=4 max_epochs=2": 8,
    "limit_train_batches=0.5 max_epochs=2": 10,
    "limit_train_batches=4 max_steps=6": 6,
    "limit_train_batches=1 max_epochs=3": 3,
    "limit_train_batches=1.0 max_epochs=1": 11,
    "limit_train_batches=500 max_epochs=1": 11,
    "fast_dev_run=3": 3,
    "fast_dev_run=true": 1,
    "accumulate_grad_batches=4 max_steps=17": 17,
}


def small(family: str, options: str) -> Experiment:
    settings = [f"--trainer.{option}" for option in options.split()]
    return experiment(
        ["--data=digits", f"--model={family}", "--model.latent=2", "--trainer.accelerator=cpu", *settings]
    )


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the batches that models learn from."""
    count: Counter[str] = Counter()
    solo, together = Family._learn, Lane.step

    def counted(self: Family, *args: Any) -> dict[str, torch.Tensor]:
        count["solo"] += 1
        return solo(self, *args)

    def stacked(self: Lane, *args: Any) -> Any:
        count["population"] += 1
        return together(self, *args)

    monkeypatch.setattr(Family, "_learn", counted)
    monkeypatch.setattr(Lane, "step", stacked)
    return count


FEW = ["max_steps=17", "limit_train_batches=4 max_epochs=2", "accumulate_grad_batches=4 max_steps=17"]


@pytest.mark.parametrize(
    ("family", "asked"),
    [("vae", FEW), ("factor_vae", [*FEW, "max_steps=5 min_epochs=2", "fast_dev_run=3"]), ("aggressive_vae", FEW)],
    ids=["one group", "two groups", "groups in turn"],
)
def test_every_family_learns_from_the_batches_that_were_asked_for(
    family: str, asked: list[str], learnt: Counter[str], tmp_path: Path
) -> None:
    """`max_steps 600` used to be 606 batches for one group and 303 for two, `limit_train_batches 10` 164 for 20."""
    fractions: list[float] = []
    for index, options in enumerate(asked):
        learnt.clear()
        checkpoint = train(small(family, options), tmp_path / str(index), lambda done, _: fractions.append(done))
        assert learnt["solo"] == BUDGETS[options], options
        info = torch.load(checkpoint, weights_only=True)["vaebench"]
        steps = next(iter(info["curves"].values()))["step"]
        assert steps[-1] == BUDGETS[options], f"{options}: a run that ends inside an epoch is validated at its end"
        assert fractions[-1] == 1.0, options


def test_progress_says_the_epoch_and_the_speed(tmp_path: Path) -> None:
    seen: list[Mapping[str, float]] = []
    train(small("vae", "max_epochs=3"), tmp_path, lambda _, metrics: seen.append(metrics))
    assert sorted({metrics["epoch"] for metrics in seen}) == [1, 2, 3]
    assert all(metrics["images/s"] > 0 for metrics in seen)
    assert {"val/elbo", "train/rate", "train/distortion"} <= seen[-1].keys(), "Defect: val/rate was shown, which is not"
    info = torch.load(tmp_path / "model.ckpt", weights_only=True)["vaebench"]
    assert not {"epoch", "images/s"} & info["curves"].keys(), "they are no curves of the record"


@pytest.mark.parametrize("options", ["max_steps=17", "limit_train_batches=0.5 max_epochs=2", "fast_dev_run=3"])
def test_a_population_learns_from_as_many(options: str, learnt: Counter[str], tmp_path: Path) -> None:
    population = Population(lanes=1)
    member = population.add(small("factor_vae", options), tmp_path)
    learnt.clear()
    while population.epoch():
        pass
    assert learnt["population"] == member.model.steps == BUDGETS[options]
    solo = train(small("factor_vae", options), tmp_path / "solo")
    curves = torch.load(solo, weights_only=True)["vaebench"]["curves"]
    assert member.history.curves["val/elbo"]["step"] == curves["val/elbo"]["step"]
    assert member.history.curves["val/elbo"]["value"] == pytest.approx(curves["val/elbo"]["value"], rel=1e-4)


def test_members_of_unequal_budgets_train_side_by_side(tmp_path: Path) -> None:
    asked = ["max_steps=17", "max_steps=14", "max_epochs=2", "limit_train_batches=5 max_epochs=3"]
    population = Population(lanes=4)
    members = [population.add(small("vae", options), tmp_path / str(i)) for i, options in enumerate(asked)]
    while population.epoch():
        pass
    assert [member.model.steps for member in members] == [17, 14, 22, 15]
    for member, options in zip(members, asked, strict=True):
        solo = load(train(small("vae", options), member.work))
        assert float(member.model.likelihood.net.layers[0].weight.detach().sum()) == pytest.approx(
            float(solo.likelihood.net.layers[0].weight.detach().sum()), rel=1e-3
        )


class Cut(Callback):
    """Interrupts at the start of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_inside_an_epoch_as_the_whole_one_does(
    monkeypatch: pytest.MonkeyPatch, learnt: Counter[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Keeper, "EVERY", -1.0)
    options = "max_steps=27 accumulate_grad_batches=2"
    whole = train(small("factor_vae", options), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(small("factor_vae", options), tmp_path / "cut", callbacks=[Cut(2)])
    learnt.clear()
    cut = train(small("factor_vae", options), tmp_path / "cut")
    assert learnt["solo"] == 5
    assert weights_hash(load(cut)) == weights_hash(load(whole))


def test_a_run_that_was_killed_after_its_last_batch_learns_from_no_other(
    monkeypatch: pytest.MonkeyPatch, learnt: Counter[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Keeper, "EVERY", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(solo, "write_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(small("vae", "max_steps=17"), tmp_path)
    learnt.clear()
    assert train(small("vae", "max_steps=17"), tmp_path).is_file()
    assert learnt["solo"] == 0


@pytest.mark.parametrize("engine", ["solo", "population"])
def test_a_budget_that_changed_after_a_kill_is_the_one_that_holds(
    engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Steps of the former budget are not counted in: the run begins again, and warns."""
    monkeypatch.setattr(Keeper, "EVERY", -1.0)
    for options, expected in (("max_steps=9", 9), ("limit_train_batches=2 max_epochs=3", 6)):
        with pytest.raises(KeyboardInterrupt):
            _trains(engine, small("vae", "max_epochs=2"), tmp_path / options, 1)
        with pytest.warns(UserWarning, match="other settings .* the run begins again"):
            assert _trains(engine, small("vae", options), tmp_path / options) == expected


def _trains(engine: str, job: Experiment, place: Path, killed: int | None = None) -> int:
    """Trains a run, which is killed in an epoch where that is given; the step of its last validation."""
    if engine == "solo":
        checkpoint = train(job, place, callbacks=[] if killed is None else [Cut(killed)])
    else:
        population = Population(lanes=1, compile=False)
        member = population.add(job, place)
        while population.epoch():
            if killed == member.epoch:
                raise KeyboardInterrupt
        checkpoint = member.export()
    return int(torch.load(checkpoint, weights_only=True)["vaebench"]["curves"]["val/elbo"]["step"][-1])


def test_accumulated_gradients_are_those_of_one_large_batch(tmp_path: Path) -> None:
    """Batches of 100, 100, 100, …, 97 by threes are batches of 300, …, 97; RAE's loss is a mean without noise."""
    states = []
    for size, accumulate in ((100, 3), (300, 1)):
        job = experiment(
            ["--data=digits", f"--data.batch_size={size}", "--model=rae", "--model.latent=2",
             "--trainer.accelerator=cpu", "--trainer.precision=64-true", "--trainer.max_epochs=2",
             f"--trainer.accumulate_grad_batches={accumulate}", "--model.clip=1"]
        )  # fmt: skip
        states.append(load(train(job, tmp_path / str(size))).state_dict())
    first, second = states
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-9, atol=1e-9)


def test_a_group_that_rests_has_the_mean_of_the_batches_it_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two batches whose gradients make one step, the second group learns from the second alone."""
    model, data = small("factor_vae", "max_epochs=1").build()
    _, rests = model.groups()
    optimizers = model.configure_optimizers()
    monkeypatch.setattr(model, "optimizers", lambda: optimizers)
    monkeypatch.setattr(model, "active", lambda t: {rests: t > 0})
    model.accumulate = 2
    found: list[list[torch.Tensor]] = []
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(
            lambda optimizer, *_: found.append([p.grad.clone() for p in optimizer.param_groups[0]["params"]])
        )
    steps = [model.step(x, None, torch.tensor(0.0)) for x in data.images("train")[:50].split([30, 20])]
    first, second = ([step.losses[name] for step in steps] for name in model.groups())
    means = [
        torch.autograd.grad(loss, model.members(name), retain_graph=True)
        for name, loss in zip(model.groups(), (0.6 * first[0] + 0.4 * first[1], second[1]), strict=True)
    ]
    for t, (step, images) in enumerate(zip(steps, (30, 20), strict=True)):
        model._learn(step, torch.tensor(float(t)), images, last=t == 1)
    for own, expected in zip(found, means, strict=True):
        for gradient, mean in zip(own, expected, strict=True):
            torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-6)


# Options ----------------------------------------------------------------------------------------------------------


def test_every_option_of_lightnings_trainer_is_classified_once() -> None:
    """A new Lightning option is caught here: say in `vaebench.configuration.options` how it is treated."""
    assert Counter([*COUNTED, *PASSED, *REFUSED]) == Counter(list(DEFAULTS))
    assert POPULATION <= COUNTED | PASSED
    assert set(DEFAULTS) >= COSMETIC
    assert all(DEFAULTS[name] in neutral for name, (neutral, _) in REFUSED.items())


UNWANTED = {
    "enable_checkpointing": "true", "enable_progress_bar": "true",
    "enable_autolog_hparams": "false", "model_registry": "name", "val_check_interval": "0.5", "overfit_batches": "3",
    "limit_test_batches": "2", "limit_predict_batches": "2", "gradient_clip_val": "1",
    "gradient_clip_algorithm": "value", "use_distributed_sampler": "false", "reload_dataloaders_every_n_epochs": "1",
    "sync_batchnorm": "true", "barebones": "true", "plugins": "[lightning.pytorch.plugins.io.TorchCheckpointIO]",
}  # fmt: skip
OTHERS = {
    "num_nodes": "2", "strategy": "fsdp", "precision": "16-mixed", "max_steps": "0", "max_epochs": "-2",
    "limit_train_batches": "0", "limit_val_batches": "1.5", "accumulate_grad_batches": "0",
    "check_val_every_n_epoch": "null", "callbacks": "ModelCheckpoint", "fast_dev_run": "-1",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [*UNWANTED.items(), *OTHERS.items()])
def test_an_option_that_does_not_hold_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(UNWANTED) == set(REFUSED)
    for variable in ("LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=rf"trainer\.{name}\b") as error:
        small("vae", f"{name}={value}")
    assert "\n" not in str(error.value)
    assert "model.clip" in str(error.value) or "gradient_clip" not in name


@pytest.mark.parametrize(
    "options",
    ["inference_mode=false detect_anomaly=true profiler=simple max_time=00:01:00:00 check_val_every_n_epoch=2 "
     "enable_model_summary=true",
     "num_sanity_val_steps=1 min_epochs=2 limit_val_batches=1 precision=bf16-mixed strategy=auto"],
)  # fmt: skip
def test_options_that_hold_train(options: str, learnt: Counter[str], tmp_path: Path) -> None:
    train(small("vae", f"{options} max_epochs=2"), tmp_path)
    assert learnt["solo"] == 2 * EPOCH


def test_a_share_of_less_than_one_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"limit_train_batches 0\.01 is less than one of 11 batches"):
        train(small("vae", "limit_train_batches=0.01"), tmp_path)


def test_max_steps_alone_is_not_cut_at_a_hundred_epochs() -> None:
    """The default of 100 epochs used to end a run of 6,000 steps at 1,100."""
    job = small("vae", "max_steps=6000")
    assert job.budget(job.build()[1]).total == 6000
    assert small("vae", "").plain["trainer"]["max_epochs"] == 100


def test_early_stopping_waits_for_min_steps(tmp_path: Path) -> None:
    stop = "callbacks=EarlyStopping callbacks.monitor=val/elbo callbacks.mode=max callbacks.patience=1"
    stop += " callbacks.min_delta=1e6"  # nats: no validation is an improvement
    for engine in ("solo", "population"):
        job = small("vae", f"{stop} max_epochs=9 min_steps=40 limit_train_batches=6")
        if engine == "solo":
            curves = torch.load(train(job, tmp_path), weights_only=True)["vaebench"]["curves"]
        else:
            population = Population(lanes=1)
            member = population.add(job, tmp_path / "member")
            while population.epoch():
                pass
            curves = member.history.curves
        assert curves["val/elbo"]["step"] == [6, 12, 18, 24, 30, 36, 42], engine


@pytest.mark.parametrize(("options", "expected"), BUDGETS.items())
def test_a_budget_is_counted_in_batches(options: str, expected: int) -> None:
    job = small("vae", options)
    assert job.budget(job.build()[1]).total == expected


def test_a_budget_holds_both_limits() -> None:
    budget = TrainingBudget(batches=10, epochs=3, steps=25)
    assert [budget.length(epoch) for epoch in range(4)] == [10, 10, 5, 0]
    assert budget.total == 25
    assert TrainingBudget(batches=10, epochs=None).total is None


@pytest.fixture
def float_first() -> Iterator[None]:
    """A process in which somebody has named Union[float, int] before Lightning's Union[int, float]."""
    for clear in typing._cleanups:  # type: ignore[attr-defined]
        clear()
    assert typing.get_args(typing.Optional[typing.Union[float, int]])[0] is float  # noqa: UP007, UP045
    yield
    for clear in typing._cleanups:  # type: ignore[attr-defined]
        clear()


@pytest.mark.usefixtures("float_first")
def test_a_limit_of_batches_is_no_fraction_whatever_was_trained_before_it_is_parsed() -> None:
    """After a training in the same process 1500 was read as 1500.0, and 1, one batch, as 1.0, all of them."""
    for text, value in (("1500", 1500), ("1", 1), ("1.0", 1.0)):
        found = experiment(["--data=digits", "--model=vae", f"--trainer.limit_train_batches={text}"]).plain["trainer"]
        assert repr(found["limit_train_batches"]) == repr(value)
