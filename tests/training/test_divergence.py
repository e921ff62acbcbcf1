"""A run that diverges stops with a sentence and an exit code of its own, and takes no other run with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_records import write_fake

from vaebench.cli import main
from vaebench.core import Family
from vaebench.core.divergence import EVERY, PATIENCE, DivergenceWatch
from vaebench.errors import Diverged
from vaebench.leaderboard import leaderboard
from vaebench.records import read_records
from vaebench.records.failures import Failure, write_failure
from vaebench.training import checkpoint, solo
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.population import Population, member
from vaebench.training.solo import train

RUN = ["--data=digits", "--model.latent=2", "--trainer.accelerator=cpu", "--trainer.max_epochs=9"]


def poison(monkeypatch: pytest.MonkeyPatch, after: int, steps: int = 10**9) -> list[int]:
    """Makes losses NaN for some steps, and notes at which steps models learnt."""
    learn, seen = Family._learn, list[int]()

    def poisoned(self: Family, step: object, *args: object) -> dict[str, torch.Tensor]:
        seen.append(self.steps)
        if after <= self.steps < after + steps:
            step = step._replace(losses={name: loss * torch.nan for name, loss in step.losses.items()})  # type: ignore[attr-defined]
        return learn(self, step, *args)  # type: ignore[arg-type]

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
        train(experiment(["--model=vae", *RUN]), tmp_path)


def test_an_overflow_that_is_left_out_is_no_divergence() -> None:
    watch = DivergenceWatch()
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
    watch, reads = DivergenceWatch(), []
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


# Benchmarks and boards --------------------------------------------------------------------------------------------

BENCHMARK = """
benchmark: tiny
seeds: [0, 1]
protocol: {{k: 5, limit: 40}}
configs: [{root}/configs/data/digits.yaml]
overrides: {{trainer.max_epochs: 2, model.latent: 2, trainer.accelerator: cpu}}
runs:
  wild: {{configs: [{root}/configs/family/vae.yaml], overrides: {{model.lr: 1.0e+30}}}}
  broken: {{configs: [{root}/configs/family/beta_vae.yaml]}}
  vae: {{configs: [{root}/configs/family/vae.yaml]}}
"""


@pytest.mark.parametrize("engine", ["solo", "population"])
def test_a_benchmark_goes_on_past_runs_that_diverge_or_fail_and_its_board_shows_them(
    engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(BENCHMARK.format(root=Path(__file__).parents[2]))
    write = checkpoint.write_checkpoint

    def broken(job: Experiment, work: Path, *rest: Any) -> Path:
        if "broken-s1" in str(work):
            raise RuntimeError(f"no more of {tmp_path}/it")
        return write(job, work, *rest)

    for module in (solo, member):
        monkeypatch.setattr(module, "write_checkpoint", broken)
    bench = ["bench", f"{tmp_path}/tiny.yaml", f"--results={tmp_path}/results", f"--work={tmp_path}/work"]
    assert main([*bench, f"--engine={engine}"]) == 1
    said = capsys.readouterr()
    for who in ("wild seed 0", "wild seed 1", "broken seed 1"):
        assert f"{who} has no record" in said.err
    assert {(r.variant, r.seed) for r in read_records(tmp_path / "results")} == {
        ("broken", 0), ("vae", 0), ("vae", 1)
    }  # fmt: skip
    rows = {line.split(" | ")[1]: line for line in said.out.splitlines() if line.startswith("| ")}
    assert "wild (diverged: 2 of 2 seeds)" in rows
    assert "broken (failed: 1 of 2 seeds)" in rows
    assert "the runs that survived: failed: 1 of 2 seeds; seed 1: RuntimeError: no more of it" in said.out
    assert "diverged: the loss of the group 'model' is not finite" in said.out.replace("\\", "")
    page = tmp_path / "page.html"
    assert main(["leaderboard", f"{tmp_path}/results", f"--html={page}"]) == 0
    assert "diverged: 2 of 2 seeds" in page.read_text()
    assert main(["leaderboard", f"{tmp_path}/results", "--budget=trials"]) == 0
    compare = ["compare", "vae", f"--results={tmp_path}/results"]
    capsys.readouterr()
    assert main([*compare, "broken"]) == 0
    assert "runs that survived: failed: 1 of 2 seeds" in " ".join(capsys.readouterr().out.split())
    assert main([*compare, "wild"]) == 2

    for module in (solo, member):
        monkeypatch.setattr(module, "write_checkpoint", write)
    seen = poison(monkeypatch, after=10**9)
    assert main([*bench, f"--engine={engine}"]) == 1, "what diverged is not tried again, what failed is"
    assert (len(seen) > 0) == (engine == "solo")
    assert len(read_records(tmp_path / "results")) == 4
    assert not list((tmp_path / "results").rglob("broken*.failed.json"))
    assert "wild (diverged: 2 of 2 seeds)" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"seed": 7}, {"seed": "1"}, {"kind": "odd"}, None])
def test_a_damaged_note_of_a_failure_is_named_and_left_out(change: dict[str, Any] | None, tmp_path: Path) -> None:
    record = write_fake(tmp_path / "run", np.random.default_rng(0))
    path = tmp_path / "other.failed.json"
    what = {name: getattr(record, name) for name in ("id", "family", "benchmark", "config", "data", "surrogate")}
    write_failure(path, Failure(**what, variant=record.variant, seed=9, kind="diverged", reason="it did"))
    assert "diverged: 1 of 2 seeds" in leaderboard(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}) if change else "{")
    out = leaderboard(tmp_path)
    assert "other.failed.json" in out
    assert "diverged" not in out
