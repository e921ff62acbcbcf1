"""Optimisers and schedulers of a run: those of torch step by step, alone and in a population, by the configuration."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from populations import args, entered, equal_to_solo, trained
from torch.optim import SGD, Adam, Adamax, AdamW, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, StepLR

from vaebench.cli import main
from vaebench.configuration.gate import vetted_run
from vaebench.core.rules import Rules
from vaebench.errors import UserError
from vaebench.optimizers import StepwiseDecay
from vaebench.records import read_records, run_identity
from vaebench.training.experiment import experiment
from vaebench.training.keeper import Keeper
from vaebench.training.models import load
from vaebench.training.population import Population
from vaebench.training.solo import train


class UnitAdam(Adam):
    """As jmtomczak/vae_vampprior has it, written apart: gradients are scaled before they reach Adam."""

    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            p.grad = p.grad / (p.grad.square().sum().sqrt() + 1e-7)
        super().step(closure)


RUNS: dict[str, tuple[list[str], Any, Any]] = {
    "Adam": (["--optimizer=Adam", "--optimizer.eps=1e-4", "--optimizer.betas=[0.5, 0.9]"],
             partial(Adam, eps=1e-4, betas=(0.5, 0.9)), None),
    "AdamW": (["--optimizer=AdamW", "--optimizer.weight_decay=0.3", "--lr_scheduler=CosineAnnealingLR",
               "--lr_scheduler.T_max=4"], partial(AdamW, weight_decay=0.3), partial(CosineAnnealingLR, T_max=4)),
    "Adamax": (["--optimizer=adamax", "--lr_scheduler=StepLR", "--lr_scheduler.step_size=2"], Adamax,
               partial(StepLR, step_size=2)),
    "SGD": (["--optimizer=SGD", "--optimizer.momentum=0.9", "--lr_scheduler=LinearLR"], partial(SGD, momentum=0.9),
            LinearLR),
    "AdamNormGrad": (["--optimizer=AdamNormGrad"], UnitAdam, None),
    "RMSprop": (["--optimizer=RMSprop", "--lr_scheduler=burda"], RMSprop, StepwiseDecay),
}  # fmt: skip


def by_hand(run: list[str], epochs: int, choose: Any, schedule: Any) -> dict[str, Any]:
    """The weights of a run with one parameter group, as torch's own loop trains them."""
    job = experiment(run)
    model, data = job.build()
    model.double()
    optimizer = choose(model.parameters(), lr=float(model.lr))
    scheduler = schedule(optimizer) if schedule else None
    batches, steps = data.training_batches(job.seed), 0
    for epoch in range(epochs):
        for x, y in islice(batches.side_by_side([(job.seed, epoch)]), job.budget(data).batches):
            step = model.step(x[0].double(), None if y is None else y[0], torch.tensor(float(steps)))
            step.losses["model"].backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
        if scheduler is not None:
            scheduler.step()
    return model.state_dict()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_steps_as_torch_does(name: str, tmp_path: Path) -> None:
    own, choose, schedule = RUNS[name]
    run = [*args("vae", epochs=3), *own]
    found = torch.load(train(experiment(run), tmp_path), weights_only=True)["state_dict"]
    for parameter, value in by_hand(run, 3, choose, schedule).items():
        torch.testing.assert_close(found[parameter], value, rtol=0, atol=1e-9)


def test_members_with_other_optimizers_equal_their_solo_runs(tmp_path: Path) -> None:
    """In one lane: options differ from member to member and from epoch to epoch."""
    owns = RUNS["Adam"][0], RUNS["AdamW"][0], ["--lr_scheduler=burda"]
    runs = [[*args("vae", seed, epochs=3), *own] for seed, own in enumerate(owns)]
    population = Population(lanes=3)
    members = entered(population, runs, tmp_path)
    assert len({member.structure for member in members}) == 1
    trained(population)
    for i, (member, run) in enumerate(zip(members, runs, strict=True)):
        equal_to_solo(member, run, tmp_path / f"solo{i}")


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (RUNS["Adamax"][0], "parameter group 'model' with the optimizer Adamax: expected Adam or AdamW"),
        (["--optimizer=Adam", "--optimizer.amsgrad=true"], "with optimizer.amsgrad True: expected Adam without it"),
        (["--optimizer_critic=SGD", "--model=factor_vae"], "parameter group 'critic' with the optimizer SGD"),
    ],
)
def test_a_population_names_the_optimizer_that_it_does_not_take(own: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        Population().add(experiment([*args("vae"), *own]), tmp_path)


def test_groups_may_have_optimizers_of_their_own(tmp_path: Path) -> None:
    """The critic's learning rate is its own as before; a scheduler for all changes both."""
    own = ["--optimizer_critic=Adam", "--optimizer_critic.betas=[0.5, 0.9]", "--lr_scheduler=ExponentialLR",
           "--lr_scheduler.gamma=0.5"]  # fmt: skip
    run = [*args("factor_vae", lr_critic=0.03), *own]
    model, _ = experiment(run).build()
    rules = model.rules()
    assert [rules[group].options(0)["betas"] for group in ("model", "critic")] == [(0.9, 0.999), (0.5, 0.9)]
    assert [rules[group].options(1)["lr"] for group in ("model", "critic")] == pytest.approx([0.5e-3, 0.015])
    population = Population()
    (member,) = entered(population, [run], tmp_path)
    trained(population)
    equal_to_solo(member, run, tmp_path / "solo")


def test_an_interrupted_run_goes_on_at_the_learning_rate_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "EVERY", 0.0)
    run = [*args("vae", epochs=4), *RUNS["AdamW"][0], "--trainer.precision=32-true"]
    with pytest.raises(KeyboardInterrupt):
        train(experiment(run), tmp_path / "cut", callbacks=[Stop()])
    states = [load(train(experiment(run), tmp_path / name)).state_dict() for name in ("cut", "whole")]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_stepwise_decay_is_that_of_the_iwaes_authors() -> None:
    rules = Rules(1e-3, scheduler=StepwiseDecay)
    expected = [1e-3 * 10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert len(expected) == 3280
    assert [rules.options(epoch)["lr"] for epoch in range(3280)] == pytest.approx(expected)
    assert rules.options(3400)["lr"] == pytest.approx(1e-4)


# The configuration ------------------------------------------------------------------------------------------------


def id_of(*own: str) -> str:
    return run_identity(experiment(["--data=digits", "--model=vae", *own]).plain, 0, {})


def test_adam_without_a_setting_is_the_run_without_an_optimizer() -> None:
    assert id_of("--optimizer=Adam") == id_of("--optimizer=Adam", "--optimizer.eps=1e-8") == id_of()
    assert id_of("--optimizer=AdamW") == id_of("--optimizer=torch.optim.adamw.AdamW", "--optimizer.weight_decay=0.01")
    assert len({id_of(*own) for own, *_ in RUNS.values()} | {id_of()}) == len(RUNS) + 1


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (["--optimizer=SGD", "--optimizer.lr=1"], "'lr' is no setting of SGD here: expected model.lr"),
        (["--optimizer.eps=1"], "'optimizer' has no class yet to which 'eps' could be given"),
        (["--optimizer=Adm"], "unknown optimizer 'Adm'; did you mean Adam"),
        (["--optimizer=vamp"], "It is a prior"),
        (["--optimizer=torch.optim.LBFGS"], "unknown optimizer 'LBFGS'"),
        (["--lr_scheduler=ReduceLROnPlateau"], "unknown lr_scheduler 'ReduceLROnPlateau'"),
        (["--lr_scheduler=OneCycleLR", "--lr_scheduler.max_lr=1"], "unknown lr_scheduler 'OneCycleLR'"),
        (["--lr_scheduler=CosineAnnealingLR"], "CosineAnnealingLR needs T_max"),
        (["--optimizer_critc=SGD"], "unknown key 'optimizer_critc'; did you mean optimizer_critic"),
        (["--optimizer=Adam", "--optimizer.eps=-1"], "eps is -1.0: expected at least 0; raise optimizer.eps"),
        (["--lr_scheduler=burda", "--lr_scheduler.stages=0"], "stages is 0: expected at least 1"),
        (["--optimizer=SGD", "--optimizer.momentum=null"], "'optimizer.momentum' cannot be null"),
        (["--optimizer=Adam", "--optimizer.fused=true"], "unknown key 'fused'"),
    ],
)
def test_what_is_wrong_with_an_optimizer_is_said_in_one_sentence(own: list[str], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        experiment(["--data=digits", "--model=factor_vae", *own]).build()
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_has_the_optimizer_and_is_reproduced_with_it(tmp_path: Path) -> None:
    """A population takes Adam with another ε, and not SGD, which then trains by itself."""
    run = "overrides: {data: digits, data.batch_size: 500, model: vae, model.latent: 2, trainer.max_epochs: 1"
    (tmp_path / "tiny.yaml").write_text(
        "protocol: {name: quick, k: 2, limit: 20}\nruns:\n"
        f"  eps: {{{run}, optimizer: Adam, optimizer.eps: 1.0e-4, lr_scheduler: burda}}}}\n"
        f"  sgd: {{{run}, optimizer: SGD, optimizer.momentum: 0.9}}}}\n"
    )
    places = [f"--results={tmp_path}/results", f"--work={tmp_path}/work"]
    assert main(["bench", f"{tmp_path}/tiny.yaml", *places, "--engine=population"]) == 0
    records = {record.variant: record for record in read_records(tmp_path / "results")}
    assert records["sgd"].config["optimizer"]["class_path"] == "torch.optim.SGD"
    assert "engine" not in records["sgd"].config
    assert "engine" in records["eps"].config
    for record in records.values():
        vetted_run(record.config, "results")
    assert main(["reproduce", str(records["eps"].path), f"--out={tmp_path}/again"]) == 0
