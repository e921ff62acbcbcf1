"""A sweep file, a benchmark file or a protocol with anything wrong in it runs, or is answered in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzz import BUDGET, CONFIGS, Outcome, cases, obeys, run, yaml_file

DIGITS, VAE, BETA = (f"{CONFIGS}/{name}.yaml" for name in ("data/digits", "family/vae", "family/beta_vae"))
SWEEP: dict[str, Any] = {
    "sweep": "tiny",
    "configs": [DIGITS, BETA],
    "overrides": {"trainer.max_epochs": 1, "model.latent": 3},
    "space": {
        "model.beta": {"float": [0.1, 10], "log": True},
        "model.schedule": {"choice": ["Constant", "Linear"]},
        "model.schedule.length": {"choice": [10], "when": {"model.schedule": "Linear"}},
    },
    "objectives": {"val/elbo": "maximise"},
    "constraints": ["active_units >= 1"],
    "sampler": {"name": "tpe", "startup": 2},
    "pruner": {"name": "asha", "factor": 3, "min_epochs": 1},
    "seeds": [0],
    "combine": "mean",
    "stop": {"trials": 2},
    "protocol": {"name": "quick", "k": 2, "limit": 4},
    "engine": {"name": "local", "workers": 1},
    "heartbeat": 10,
}
BENCHMARK: dict[str, Any] = {
    "benchmark": "tiny",
    "seeds": [0],
    "protocol": {"name": "quick", "k": 2, "limit": 4, "seed": 0, "measurements": {"samples": None}},
    "configs": [DIGITS],
    "overrides": {"trainer.max_epochs": 1, "trainer.max_steps": 2, "model.latent": 3},
    "runs": {"vae": {"configs": [VAE], "overrides": {"model.samples": 1}}},
}
PROTOCOL: dict[str, Any] = {
    "description": "A tiny one.",
    "seed": 0,
    "limit": 4,
    "measurements": {"likelihood": {"k": 2, "precision": "f32"}, "units": None, "collapse": {}, "reconstruction": None},
}


def _sweep(content: bytes, folder: Path) -> Outcome:
    (folder / "own.yaml").write_bytes(content)
    return run("sweep", "own.yaml", "--dry-run", "--results=results", "--work=runs")


def _bench(content: bytes, folder: Path) -> Outcome:
    (folder / "own.yaml").write_bytes(content)
    return run("bench", "own.yaml", "--results=results", "--work=runs")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two steps."""
    out = tmp_path_factory.mktemp("runs")
    assert run("fit", f"--config={VAE}", "--data=digits", "--model.latent=3", *BUDGET, f"--out={out}").code == 0
    (found,) = out.rglob("model.ckpt")
    return found


@cases(few=5, many=150)
def test_a_sweep_is_planned_or_says_why_not(count: int) -> None:
    obeys(yaml_file(SWEEP), count, _sweep)


@cases(few=6, many=150)
def test_a_benchmark_runs_or_says_why_not(count: int) -> None:
    obeys(yaml_file(BENCHMARK), count, _bench)


@cases(few=6, many=150)
def test_a_protocol_measures_or_says_why_not(count: int, checkpoint: Path) -> None:
    def evaluate(content: bytes, folder: Path) -> Outcome:
        (folder / "own.yaml").write_bytes(content)
        return run("evaluate", str(checkpoint), "--protocol=own.yaml", "--results=results", "--limit=4")

    obeys(yaml_file(PROTOCOL), count, evaluate)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("measurements: {null: null}", "unknown measurement 'None'"),
        ("measurements: {likelihood: {k: 18446744073709551616}}", "expected at most 1,000,000,000"),
        ("measurements: {likelihood: {k: 2026-11-30}}", "line 1: 2026-11-30 is a date"),
        ("measurements: [likelihood]", "has no measurements: expected 'measurements:'"),
        ("measurements: {likelihood: [k]}", "expected a table of settings"),
        ("measurements: {likelihood: {precision: .inf}}", "likelihood.precision is inf, where finite numbers are"),
        ("measurements: {likelihood: {k: [.nan]}}", "likelihood.k is [nan], where finite numbers are expected"),
    ],
)
def test_a_protocol_that_ended_in_a_traceback_is_refused(
    text: str, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(text)
    outcome = run("evaluate", str(checkpoint), f"--protocol={tmp_path}/own.yaml", "--limit=4", f"--results={tmp_path}")
    assert outcome.kind == "refusal", outcome
    assert message in outcome.err


@pytest.mark.parametrize("command", ["bench", "sweep"])
def test_a_date_among_the_settings_of_a_file_is_named_with_its_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("overrides:\n  model.lr: 2026-11-30\nruns: {a: {}}\nspace: {}\n")
    outcome = run(command, f"{tmp_path}/own.yaml")
    assert outcome.kind == "refusal", outcome
    assert "line 2: 2026-11-30 is a date: expected a text or a number; put it in quotes" in outcome.err


@pytest.mark.parametrize("name", ["../a", "/a", ".a", "", "a/b", "a\\b", "a\nb", "a" * 201])
@pytest.mark.parametrize("command", ["bench", "sweep"])
def test_a_name_that_leads_out_of_the_folder_of_records_is_refused(command: str, name: str, tmp_path: Path) -> None:
    """Defect: `benchmark: ../a` wrote its records beside the folder of results."""
    body, key = (BENCHMARK, "benchmark") if command == "bench" else (SWEEP, "sweep")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**body, key: name}))
    outcome = run(command, f"{tmp_path}/own.yaml", f"--results={tmp_path}/results", f"--work={tmp_path}/work")
    assert outcome.kind == "refusal", outcome
    assert "expected what can be a folder's name" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


@pytest.mark.parametrize("name", ["../x", "a/b", "\x1b[2Jx", "a\0b", "x\n", ".h", "", "a" * 201])
def test_a_variant_that_leads_out_of_its_benchmark_or_cannot_be_printed_is_refused(name: str, tmp_path: Path) -> None:
    """Defect: `../x` wrote its records beside the benchmark's; others trained, and then failed to be recorded."""
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**BENCHMARK, "runs": {name: {}}}))
    outcome = run("bench", f"{tmp_path}/own.yaml", f"--results={tmp_path}/results", f"--work={tmp_path}/work")
    assert outcome.kind == "refusal", outcome
    assert "a variant of" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]
