"""A run that diverges stops with a sentence and an exit code of its own, and takes no other run with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vaebench.cli import main
from vaebench.core import Family
from vaebench.divergence import EVERY, PATIENCE, Watch
from vaebench.errors import Diverged
from vaebench.explain import experiment
from vaebench.population import Population

RUN = ["--data=digits", "--model.latent=2", "--trainer.accelerator=cpu", "--trainer.max_epochs=9"]


def poison(monkeypatch: pytest.MonkeyPatch, after: int, steps: int = 10**9) -> list[int]:
    """Makes losses NaN for some steps, and notes at which steps models learnt."""
    learn, seen = Family._learn, list[int]()

    def poisoned(self: Family, step: object, *args: object) -> None:
        seen.append(self.steps)
        if after <= self.steps < after + steps:
            step = step._replace(losses={name: loss * torch.nan for name, loss in step.losses.items()})  # type: ignore[attr-defined]
        learn(self, step, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Family, "_learn", poisoned)
    return seen


@pytest.mark.parametrize("family", ["vae", "factor_vae"])
def test_a_run_on_nan_stops_after_a_few_steps_with_exit_code_3(
    family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """lr 10 used to train every epoch on NaN, to exit with 0 and to say "evaluate it"."""
    seen = poison(monkeypatch, after=20)
    assert main(["fit", f"--model={family}", *RUN, f"--out={tmp_path}"]) == 3
    said = capsys.readouterr()
    group = {"vae": "the group 'model'", "factor_vae": "the group"}[family]
    assert "diverged" in said.err
    assert "from step 20 on" in said.err
    assert "model.lr" in said.err
    assert "evaluate it" not in said.out
    assert group in said.err
    assert seen[-1] < 20 + PATIENCE + EVERY + 16
    assert not list(tmp_path.rglob("model.ckpt"))


def test_nan_at_the_very_end_is_divergence_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    poison(monkeypatch, after=98)
    with pytest.raises(Diverged, match="not finite after 99 steps"):
        experiment(["--model=vae", *RUN]).run(tmp_path)


def test_an_overflow_that_is_left_out_is_no_divergence() -> None:
    watch = Watch()
    for step in range(100):
        watch.take(step, "model", torch.tensor(torch.inf if step % 7 < PATIENCE - 1 else 1.0))
        watch.look()
    for step in range(100, 100 + PATIENCE):
        watch.take(step, "model", torch.tensor(torch.nan))
    watch.take(200, "critic", torch.tensor(1.0))
    with pytest.raises(Diverged, match=r"the group 'model' is not finite from step \d+ on"):
        watch.look()


def test_losses_are_read_only_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading one from a GPU makes training wait for it."""
    watch, reads = Watch(), []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(self) or tolist(self))  # type: ignore[func-returns-value]
    for step in range(10 * EVERY):
        watch.take(step, "model", torch.tensor(1.0))
        watch.look()
    assert len(reads) == 10


def test_a_member_that_diverges_is_taken_out_and_the_others_go_on(tmp_path: Path) -> None:
    population = Population(lanes=3)
    rates = ["0.001", "1e30", "0.002"]
    members = [
        population.add(experiment(["--model=vae", *RUN, f"--model.lr={rate}"]), tmp_path / rate) for rate in rates
    ]
    while population.epoch():
        pass
    assert [member.diverged is None for member in members] == [True, False, True]
    assert [member.model.steps for member in members][::2] == [99, 99]
    assert members[1].model.steps < 99
    assert members[0].export().is_file()
    with pytest.raises(Diverged, match="the group 'model' is not finite from step"):
        members[1].export()
