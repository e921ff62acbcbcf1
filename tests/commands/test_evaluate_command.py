"""`vaebench evaluate`: protocols, devices, several processes, and bad input that leaves nothing half-written."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import command, wait

from vaebench.cli import main
from vaebench.evaluation.protocol import recorded_protocol
from vaebench.records import read_records, run_identity, stable
from vaebench.reproduction.comparison import altered
from vaebench.running.recording import WORK, record_id

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    fit = ["fit", f"--config={ROOT}/configs/family/vae.yaml", "--data=digits", "--model.latent=3"]
    assert main([*fit, "--trainer.max_epochs=2", "--trainer.accelerator=cpu", f"--out={folder}"]) == 0
    return next(folder.glob("*/model.ckpt"))


def _fails(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main([str(part) for part in argv]) == 2
    return capsys.readouterr().err


def test_several_processes_give_the_record_of_one(checkpoint: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        results = tmp_path / str(processes)
        command = ["evaluate", checkpoint, "--k", 50, "--device", "cpu", "--results", results]
        assert main([str(part) for part in [*command, "--processes", processes]]) == 0
    (alone,), (shared,) = (read_records(tmp_path / str(processes)) for processes in (1, 2))
    first, second = stable(alone), stable(shared)
    assert first.pop("metrics") == second.pop("metrics")
    assert {**first, "cost": None} == {**second, "cost": None}
    for name, values in alone.per_image().items():
        assert values.shape == shared.per_image()[name].shape
        assert abs(values - shared.per_image()[name]).max() <= 1e-5


def test_square_brackets_in_a_definition_are_printed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal's markup took the [z] of E_q[z] for a style and swallowed it."""
    assert main(["evaluate", str(checkpoint), "--protocol", "quick", "--limit", "50", "--results", str(tmp_path)]) == 0
    assert "Var_x(E_q[z]) > 0.01" in capsys.readouterr().out


def test_a_limit_above_the_number_of_images_alters_no_record(checkpoint: Path, tmp_path: Path) -> None:
    """Defect: `verify` called a record of `quick`, limited to 1,000 of 300 images, changed after its run."""
    for i, more in enumerate((["--protocol", "quick"], ["--limit", "300"], ["--limit", "50"], ["--k", "9"])):
        assert main(["evaluate", str(checkpoint), "--k=5", *more, f"--results={tmp_path}/{i}"]) == 0
        (record,) = read_records(tmp_path / str(i))
        assert altered(record) is None
        run = run_identity(record.config, record.seed, record.data["hashes"])
        assert record_id(run, recorded_protocol(record.protocol, 300)) == record.id
        assert altered(replace(record, seed=record.seed + 1)) is not None


def _stamps(paths: Iterable[Path]) -> dict[Path, int]:
    """When each was written, of those that are there."""
    stamps = {}
    for path in paths:
        with suppress(FileNotFoundError):
            stamps[path] = path.stat().st_mtime_ns
    return stamps


def test_an_evaluation_that_is_killed_goes_on_and_leaves_no_trace(checkpoint: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(checkpoint), "--k=20000", "--device=cpu", "--limit=60", "--results"]
    running = command(*words, tmp_path / "results")
    pieces = f"digits/.*{WORK}/*/likelihood-part-*.piece"
    wait(lambda: list((tmp_path / "results").glob(pieces)), running)
    running.kill()
    running.join()
    done = list((tmp_path / "results").glob(pieces))
    kept = _stamps(done)
    (folder,) = {path.parent for path in done}
    again = command(*words, tmp_path / "results")
    while again.is_alive() and folder.exists():
        assert _stamps(kept).items() <= kept.items()
        time.sleep(0.02)
    again.join()
    assert again.exitcode == 0
    assert main([*words, str(tmp_path / "whole")]) == 0
    (resumed,), (whole,) = (read_records(tmp_path / name) for name in ("results", "whole"))
    assert stable(resumed)["metrics"] == stable(whole)["metrics"]
    assert not list((tmp_path / "results").glob(f"*/.*{WORK}"))


def test_what_cannot_be_evaluated_is_refused_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(*options: object, file: Path = checkpoint) -> str:
        message = _fails(capsys, "evaluate", file, "--results", tmp_path / "results", *options)
        assert not list(tmp_path.glob("results/**/record.json"))
        return message

    assert "k is 0" in evaluate("--k", 0)
    assert "limit is 0" in evaluate("--limit", 0)
    assert "unknown protocol 'quik'; did you mean quick" in evaluate("--protocol", "quik")
    assert "0 processes" in evaluate("--processes", 0)
    assert "device 'tpu' is not here: expected one of cpu" in evaluate("--device", "tpu")

    def changed(name: str, change: object) -> Path:
        content = torch.load(checkpoint, weights_only=True)
        change(content)
        torch.save(content, tmp_path / name)
        return tmp_path / name

    def poison(content: dict) -> None:
        next(v for k, v in content["state_dict"].items() if k.startswith("likelihood.") and v.dim() == 2).fill_(
            torch.nan
        )

    def another(content: dict) -> None:
        content["hyper_parameters"]["latent"] = 4

    assert "image 0 an importance weight that is not finite" in evaluate(file=changed("nan.ckpt", poison))
    assert "size mismatch" in evaluate(file=changed("other.ckpt", another)).replace("posterior", "likelihood")
