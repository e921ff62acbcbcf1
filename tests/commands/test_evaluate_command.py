"""`vaebench evaluate`: protocols, devices, several processes, and bad input that leaves nothing half-written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import command, wait

import vaebench as vb
from vaebench.cli import main
from vaebench.data.digits import Digits
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.precision import Speed, measure_speed
from vaebench.evaluation.protocol import recorded_protocol
from vaebench.leaderboard import boards
from vaebench.records import read_records, run_identity, stable
from vaebench.records.fields import RECORD, fault
from vaebench.reproduction.comparison import altered
from vaebench.running import precision
from vaebench.running.recording import WORK, environment, record_id

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


def test_precision_auto_measures_and_says_what_it_took(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for ratio, taken, said in ((3.0, "bf16", "3.0 times as fast"), (1 / 30, "f32", "30.0 times slower")):
        monkeypatch.setattr(precision, "measure_speed", lambda *_, ratio=ratio: Speed(ratio))
        results = tmp_path / taken
        command = ["evaluate", checkpoint, "--k", 5, "--limit", 40, "--precision", "auto", "--results", results]
        assert main([*map(str, command), "--device", "cpu"]) == 0
        (record,) = read_records(results)
        assert record.protocol["measurements"]["likelihood"]["precision"] == taken, "a record names what was used"
        err = capsys.readouterr().err
        assert said in err
        assert f"f32 on this device: precision {taken}\n" in err


def test_bf16_that_is_slower_here_says_so(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: on a CPU without bf16 units it took 30 times as long, in silence."""
    monkeypatch.setattr(precision, "measure_speed", lambda *_: Speed(1 / 30))
    command = ["evaluate", checkpoint, "--k", 5, "--limit", 40, "--precision", "bf16", "--results", tmp_path]
    assert main([*map(str, command), "--device", "cpu"]) == 0
    assert "bf16 scores samples 30.0 times slower than f32 on this device; --precision auto" in capsys.readouterr().err


def test_the_speed_of_a_precision_is_that_of_this_device(checkpoint: Path) -> None:
    model, x = vb.load(checkpoint), Digits("binary").images("test")
    before = torch.get_rng_state()
    assert 0.001 < measure_speed(model, x, seconds=0.05).bf16 < 1000
    assert torch.equal(torch.get_rng_state(), before)


def test_chunks_change_no_figure_and_are_no_other_estimator(checkpoint: Path, tmp_path: Path) -> None:
    for chunk in ([], ["--chunk", 3]):
        command = ["evaluate", checkpoint, "--k", 20, "--limit", 40, *chunk, "--results", tmp_path, "--device", "cpu"]
        assert main([*map(str, command)]) == 0
    one, other = read_records(tmp_path)
    assert one.value("log_likelihood") == pytest.approx(other.value("log_likelihood"), abs=1e-4)
    assert len(boards([one, other])) == 1, "one estimator"


def test_records_name_the_gpu_that_was_used_and_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: the first GPU was named, whatever `--device` was."""
    assert "gpu" not in environment(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU {device.index}")
    here = environment(torch.device("cuda:1"))
    assert here["gpu"] == "the GPU 1"
    assert {"cuda", "cudnn", "training_products"} <= set(here)
    assert fault(json.loads(json.dumps(here)), RECORD["environment"]) is None


def test_evaluation_computes_in_full_float32(checkpoint: Path) -> None:
    """TF32 keeps 10 bits of a float32; cuDNN takes it for convolutions unless it is told not to."""
    model, kinds = vb.load(checkpoint), (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "tf32"
        with evaluation_mode(model, torch.device("cpu")):
            assert [kind.fp32_precision for kind in kinds] == ["ieee", "ieee"]
        assert [kind.fp32_precision for kind in kinds] == ["tf32", "tf32"]
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def test_the_speed_of_a_conditional_model_is_measured_with_its_labels() -> None:
    """Defect: cvae's checkpoints could not be evaluated in bf16, which measured the model without labels."""
    data = Digits("binary")
    settled = precision.settled({"precision": "auto"}, lambda: (vb.build("cvae", data, latent=2), data))
    assert settled["precision"] in ("f32", "bf16")


def test_nothing_is_opened_where_no_precision_is_to_be_measured() -> None:
    assert precision.settled({"precision": "f32"}, lambda: pytest.fail("it was opened")) == {"precision": "f32"}
