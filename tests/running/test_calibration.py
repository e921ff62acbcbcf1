"""Steps timed in turns with the plain VAE's: what is written beside which records, and what the figure means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_records import write_fake
from logged_runs import ONE, VAE

from vaebench.cli import main
from vaebench.records import read_records
from vaebench.records.calibration import Calibration, read_calibration
from vaebench.running import calibration
from vaebench.running.bench import Ended
from vaebench.running.benchmark import BenchmarkRun
from vaebench.running.calibration import HIGH, LOW, PAIRS, Steps, measure
from vaebench.training.experiment import experiment


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "BLOCK", 0.002)


def test_calibrations_stand_beside_all_records_of_a_variant_and_change_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(ONE)
    rng, ended = np.random.default_rng(0), []
    for variant, seed in (("vae", 0), ("vae", 1), ("broken", 0)):
        record = write_fake(tmp_path / "results" / f"{variant}{seed}", rng, variant=variant, seed=seed)
        ended.append(Ended(BenchmarkRun(variant, seed, VAE), record.path))
    before, timed = read_records(tmp_path / "results"), []

    def found(job: Any) -> Calibration:
        timed.append(job)
        if len(timed) == 2:
            raise RuntimeError("no step today")
        return Calibration(1.5, 1.4, 1.6, PAIRS, 0.003, 0.002, "vae", {"step_flops": 7}, {}, "now")

    monkeypatch.setattr(calibration, "measure", found)
    failed = Ended(BenchmarkRun("failed", 0, VAE), tmp_path / "failed.json", reason="it diverged")
    monkeypatch.setattr("vaebench.running.bench.bench", lambda *_, **__: [*ended, failed])
    assert main(["bench", str(tmp_path / "tiny.yaml"), f"--results={tmp_path}/results", "--calibrate"]) == 1
    said = capsys.readouterr()
    assert "vae: a step costs 1.50 of the plain VAE's (1.40 to 1.60)" in said.out
    assert "broken is not calibrated: no step today" in said.err
    after = read_records(tmp_path / "results")
    assert tuple(before) == tuple(after)
    assert not after.damaged
    assert [read_calibration(record) is not None for record in after] == [False, True, True]
    assert len(timed) == 2, "once a variant"


def test_the_plain_vae_costs_itself_and_eight_samples_cost_more() -> None:
    threads = torch.get_num_threads()
    plain = measure(experiment(["--data=digits", "--model=vae", "--trainer.accelerator=cpu"]))
    assert plain.ratio == pytest.approx(1.0, abs=0.3)
    assert plain.low <= plain.ratio <= plain.high
    assert plain.machine["threads"] == 1
    assert torch.get_num_threads() == threads
    assert plain.flops["step_flops"] == 128 * 788_000
    many = measure(experiment(["--data=digits", "--model=iwae", "--model.k=20", "--trainer.accelerator=cpu"]))
    assert many.ratio > 2
    assert many.pairs == PAIRS


def test_the_interval_holds_the_median_whatever_the_distribution() -> None:
    """By the binomial distribution of how many of the pairs lie below it."""
    draws = torch.rand(20_000, PAIRS, generator=torch.Generator().manual_seed(0)).sort(1).values
    held = (draws[:, LOW] <= 0.5) & (draws[:, HIGH] >= 0.5)
    assert float(held.float().mean()) > 0.955


def test_a_block_learns_as_training_does_and_visits_all_of_a_run() -> None:
    job = experiment([*VAE, "--trainer.accumulate_grad_batches=2", "--model=encoder_steps_vae"])
    model, data = job.build()
    steps = Steps(model, data, 16, torch.device("cpu"), job.options, total=1000)
    seen: list[tuple[int, bool]] = []
    learn = model.learn

    def heard(x: torch.Tensor, y: Any, last: bool = True) -> Any:
        seen.append((model.steps, last))
        return learn(x, y, last)

    model.learn = heard  # type: ignore[method-assign]
    start = [p.detach().clone() for p in model.parameters()]
    assert steps.block() > 0
    visited = [step for step, _ in seen]
    assert len(seen) >= calibration.TURNS
    assert max(visited) > 900
    assert min(visited) < 50
    assert sum(last for _, last in seen) == len(seen) // 2
    assert any(not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))
