"""A record made again from itself: what agrees, what does not, and what is said before any time is spent on it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from lightning import Trainer

from vaebench.cli import main
from vaebench.evaluation.protocol import recorded_protocol
from vaebench.records import RECORD, RunRecord, canonical, identity, leaves, read_records, stable
from vaebench.reproduction.comparison import altered, compare_records
from vaebench.reproduction.tolerance import (
    DIFFERENT,
    EQUAL,
    LOOSE,
    NOISE,
    PAIRED,
    ROUNDING,
    SAME_WEIGHTS,
    TRAINED_AGAIN,
    UNCOMPARED,
    judge,
)
from vaebench.running.recording import WORK, record_id
from vaebench.training.keeper import Keeper

ROOT = Path(__file__).parents[2]
BENCHMARK = f"""
benchmark: tiny
seeds: [0]
protocol: {{k: 30, limit: 60}}
configs: [{ROOT}/configs/data/digits.yaml]
overrides: {{trainer.max_epochs: 2, model.latent: 3, trainer.accelerator: cpu}}
runs:
  beta_vae: {{configs: [{ROOT}/configs/family/beta_vae.yaml]}}
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run's record."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "tiny.yaml").write_text(BENCHMARK)
    assert main(["bench", f"{folder}/tiny.yaml", f"--results={folder}/results", f"--work={folder}/work"]) == 0
    return next((folder / "results").rglob(RECORD)).parent


@pytest.fixture
def copied(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "results" / "tiny" / recorded.name))


def changed(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a record and computes its digest anew, as someone who forges one would."""
    body = json.loads((directory / RECORD).read_bytes())
    change(body)
    body["digest"] = hashlib.sha256(canonical({k: v for k, v in body.items() if k != "digest"})).hexdigest()
    (directory / RECORD).write_text(json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert not read_records(directory).damaged


def _command(tmp_path: Path, name: str, *argv: object) -> list[str]:
    return [name, *map(str, argv), f"--results={tmp_path}/results", f"--out={tmp_path}/out"]


def _only(folder: Path) -> RunRecord:
    (record,) = read_records(folder)
    return record


# Again ------------------------------------------------------------------------------------------------------------


def test_a_record_is_reproduced_bit_for_bit_from_itself_alone(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = _only(copied)
    (copied / "model.ckpt").unlink()
    assert main(_command(tmp_path, "reproduce", record.id[:6])) == 0
    out = capsys.readouterr().out
    assert f"reproduced: of {len(record.metrics)} metrics {len(record.metrics)} equal" in out
    assert "settings, protocol, data, code and environment are the same" in out
    assert "equal as a whole: weights, figures of every image, curves" in out
    again = _only(tmp_path / "out")
    assert {**stable(again), "cost": None} == {**stable(record), "cost": None}
    assert [path.name for path in (tmp_path / "out").iterdir()] == [again.path.name if again.path else ""]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert main(_command(tmp_path, "reproduce", copied / RECORD)) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}, "not trained twice"
    assert "was finished before" in capsys.readouterr().err


def test_a_member_of_a_population_is_reproduced_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(BENCHMARK)
    bench = ["bench", f"{tmp_path}/tiny.yaml", f"--results={tmp_path}/results", f"--work={tmp_path}/work"]
    assert main([*bench, "--engine", "population"]) == 0
    record = _only(tmp_path / "results")
    assert "engine" in record.config
    assert main(_command(tmp_path, "reproduce", record.path)) == 0
    assert _only(tmp_path / "out").config == record.config
    assert "different:" not in capsys.readouterr().out.replace("different: none of these", "")


def test_verify_measures_the_checkpoint_alone(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaebench.reproduction.repeat.train", lambda *_: pytest.fail("trained"))
    record = _only(copied)
    assert main(_command(tmp_path, "verify", copied)) == 0
    assert f"verified: of {len(record.metrics)} metrics {len(record.metrics)} equal" in capsys.readouterr().out
    elsewhere = (copied / "model.ckpt").rename(tmp_path / "elsewhere.ckpt")
    assert main(_command(tmp_path, "verify", copied)) == 2
    assert "has no model.ckpt" in capsys.readouterr().err
    assert main(_command(tmp_path, "verify", copied, "--checkpoint", elsewhere)) == 0


def test_a_wrong_checkpoint_is_named_before_anything_is_measured(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify(change: Callable[[dict[str, Any]], Any]) -> str:
        content = torch.load(copied / "model.ckpt", weights_only=True)
        change(content)
        torch.save(content, tmp_path / "other.ckpt")
        assert main(_command(tmp_path, "verify", copied, "--checkpoint", tmp_path / "other.ckpt")) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    message = verify(lambda content: next(iter(content["state_dict"].values())).add_(1))
    assert "is not the checkpoint that record" in message
    assert "SHA-256" in message
    epochs = verify(lambda content: content["vaebench"]["config"]["trainer"].update(max_epochs=200))
    assert (
        "trained otherwise than the record says: config.trainer.max_epochs is 200 there and 2 in the record" in epochs
    )
    assert "seed is 7 there and 0" in verify(lambda content: content["vaebench"].update(seed=7))


def test_a_changed_metric_is_different(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def better(body: dict[str, Any]) -> None:
        body["metrics"]["log_likelihood"]["value"] += 0.5

    changed(copied, better)
    for command in ("reproduce", "verify"):
        code = main(_command(tmp_path, command, copied))
        out = capsys.readouterr().out
        # half a nat is within four standard errors over 60 images: training again excuses it, the same weights do not
        assert (code, out.splitlines()[-1]) == {
            "reproduce": (0, f"reproduced: of {len(_only(copied).metrics)} metrics "
                             f"{len(_only(copied).metrics) - 1} equal, 1 noise"),
            "verify": (1, "different: log_likelihood"),
        }[command]  # fmt: skip
    changed(copied, lambda body: body["metrics"]["log_likelihood"].update(value=0.0))
    assert main(_command(tmp_path, "reproduce", copied)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "different: log_likelihood"


def test_a_changed_setting_is_different_and_said(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(copied, lambda body: body["config"]["model"]["init_args"].update(lr=0.02))
    assert main(_command(tmp_path, "reproduce", copied)) == 1
    captured = capsys.readouterr()
    assert "does not follow from the record's configuration" in captured.err
    assert "different: " in captured.out.splitlines()[-1]
    assert "elbo" in captured.out.splitlines()[-1]
    changed(copied, lambda body: body["config"]["model"]["init_args"].update(surplus=1))
    assert main(_command(tmp_path, "reproduce", copied)) == 2
    assert "cannot be trained by this code: unknown key 'surplus'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reproduce", "verify"])
def test_other_data_are_named_before_training(
    command: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebench.data.digits import Digits

    hashes = {**_only(copied).data["hashes"], "val": "0" * 64}
    monkeypatch.setattr(Digits, "hashes", hashes)
    assert main(_command(tmp_path, command, copied)) == 1
    message = capsys.readouterr().err
    assert "different: the data set 'digits' is not the one" in message
    assert "the hashes of val differ" in message
    assert not (tmp_path / "out").exists()


def test_what_differs_in_code_and_environment_is_named(recorded: Path, tmp_path: Path) -> None:
    one, two = (shutil.copytree(recorded, tmp_path / name) for name in ("one", "two"))

    def later(body: dict[str, Any]) -> None:
        body["environment"].update(torch="3.0", commit="f" * 40, dirty=True)
        body["cost"]["threads"] = 64
        body["config"]["trainer"]["max_epochs"] = 3
        body["data"]["hashes"]["test"] = "0" * 64

    changed(two, later)
    comparison = compare_records(_only(one), _only(two), TRAINED_AGAIN)
    assert {(d.group, d.name) for d in comparison.differences} >= {
        ("environment", "torch"), ("code", "commit"), ("environment", "threads"),
        ("setting", "trainer.max_epochs"), ("data", "hashes.test"),
    }  # fmt: skip
    assert {d.measured for d in comparison.differences if d.name == "torch"} == {"3.0"}
    assert comparison.different == []
    assert altered(_only(one)) is None
    assert "does not follow" in str(altered(_only(two)))


# Interrupted ------------------------------------------------------------------------------------------------------


def test_what_was_interrupted_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in training; then SIGKILL in the evaluation."""
    (tmp_path / "tiny.yaml").write_text(BENCHMARK.replace("max_epochs: 2", "max_epochs: 6").replace("k: 30", "k: 3000"))
    assert main(["bench", f"{tmp_path}/tiny.yaml", f"--results={tmp_path}/results", f"--work={tmp_path}/work"]) == 0
    record = _only(tmp_path / "results")
    command = _command(tmp_path, "reproduce", record.id)
    with monkeypatch.context() as patch:
        saves: list[Path] = []

        def save(trainer: Trainer, path: Path) -> None:
            real(trainer, path)
            saves.append(path)
            if len(saves) == 3:
                raise KeyboardInterrupt

        real = Trainer.save_checkpoint
        patch.setattr(Keeper, "EVERY", 0.0)
        patch.setattr(Trainer, "save_checkpoint", save)
        assert main(command) == 130
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.ckpt")) == ["last.ckpt", "previous.ckpt"]
    process = processes.command(*command)
    processes.wait(lambda: list((tmp_path / "out").glob(f".*{WORK}/*/likelihood*.piece")), process)
    process.kill()
    process.join()
    assert not list((tmp_path / "out").glob("*/record.json"))
    assert main(command) == 0
    again = _only(tmp_path / "out")
    assert (again.metrics, again.curves, again.checkpoint) == (record.metrics, record.curves, record.checkpoint)
    assert len(list((tmp_path / "out").iterdir())) == 1, "no unfinished work is left"


# Other records ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [1, 2])
def test_a_record_of_a_former_schema_is_reproduced_though_its_id_was_made_otherwise(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], schema: int
) -> None:
    """Its id had class paths; and one of them may be of a module that has moved since."""

    def older(body: dict[str, Any]) -> None:
        body["schema"] = schema
        net = body["config"]["model"]["init_args"]["posterior"]["init_args"]["net"]
        net["class_path"] = "vaebench.networks.perceptrons.MLP"
        run = identity(config=body["config"], seed=body["seed"], data=body["data"]["hashes"])
        body["id"] = record_id(run, recorded_protocol(body["protocol"], 300))
        if schema == 1:
            del body["tables"], body["warnings"]

    changed(copied, older)
    assert altered(_only(copied)) is None
    assert main(_command(tmp_path, "reproduce", copied)) == 0
    assert "equal" in capsys.readouterr().out
    (again,) = read_records(tmp_path / "out")
    assert again.schema == 3
    assert compare_records(_only(copied), again, TRAINED_AGAIN).differences == ()


def test_what_cannot_be_repeated_is_refused_by_name(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(name: object, change: Callable[[dict[str, Any]], Any] = dict) -> str:
        body = (copied / RECORD).read_bytes()
        content = json.loads(body)
        change(content)
        content["digest"] = hashlib.sha256(canonical({k: v for k, v in content.items() if k != "digest"})).hexdigest()
        (copied / RECORD).write_text(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n", "utf-8")
        assert main(_command(tmp_path, "reproduce", name)) == 2
        (copied / RECORD).write_bytes(body)
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "has schema 7, not 3" in refused(copied, lambda body: body.update(schema=7))
    assert "version 1 of the protocols" in refused(copied, lambda body: body["protocol"].update(version=1))
    assert "on 4 devices" in refused(copied, lambda body: body["config"]["trainer"].update(devices=4))
    assert "unknown record 'nothing'" in refused("nothing")
    shutil.copytree(copied, copied.with_name("twin"))
    assert "may mean any of 2 records" in refused(_only(copied).id)
    assert "may mean any of 2 records" in refused(copied.parent)


# Classes of agreement ---------------------------------------------------------------------------------------------


def _metric(images: np.ndarray) -> dict[str, Any]:
    return {"value": float(images.mean()), "se": float(images.std(ddof=1) / len(images) ** 0.5), "n": len(images)}


def _verdict(then: np.ndarray, now: np.ndarray, allowed: tuple[str, ...]) -> str:
    return judge("elbo", _metric(then), _metric(now), (then, now), allowed).verdict


def test_each_class_holds_what_it_says_and_no_more() -> None:
    rng = np.random.default_rng(0)
    then = rng.normal(-90, 10, 400)
    spread, error = then.std(), then.std(ddof=1) / 20
    for shift, trained, weights in [
        (0.0, EQUAL, EQUAL),
        (0.99 * 0.01 * spread, ROUNDING, ROUNDING),
        (1.01 * 0.01 * spread, NOISE, DIFFERENT),
        (3.99 * np.sqrt(2) * error, NOISE, DIFFERENT),
        (4.01 * np.sqrt(2) * error, DIFFERENT, DIFFERENT),
    ]:
        for sign in (1, -1):
            assert _verdict(then, then + sign * shift, TRAINED_AGAIN) == trained
            assert _verdict(then, then + sign * shift, SAME_WEIGHTS) == weights
    noise = rng.normal(0, 1, 400)
    noise -= noise.mean()
    for scale, mean, expected in [(0.2, 0.0, PAIRED), (0.6, 0.0, DIFFERENT)]:
        assert _verdict(then, then + scale * spread * noise / noise.std() + mean, SAME_WEIGHTS) == expected
    own = 2.0 / 20
    assert _verdict(then, then + 2 * noise / noise.std() + 3.9 * own, SAME_WEIGHTS) == PAIRED
    assert _verdict(then, then + 2 * noise / noise.std() + 4.1 * own, SAME_WEIGHTS) == DIFFERENT
    assert _verdict(then, rng.permutation(then), SAME_WEIGHTS) == DIFFERENT, "the right mean on the wrong images"


def test_a_value_that_its_own_images_do_not_have_does_not_agree() -> None:
    """A forged mean beside honest images, or forged images beside an honest mean."""
    images = np.random.default_rng(0).normal(-90, 10, 400)
    forged = {**_metric(images), "value": images.mean() + 1.0}
    for pair in [(forged, _metric(images)), (_metric(images), forged)]:
        assert judge("elbo", *pair, (images, images), SAME_WEIGHTS).verdict == DIFFERENT
    assert judge("elbo", _metric(images), _metric(images), (images + 5, images), TRAINED_AGAIN).verdict == DIFFERENT
    once = judge("elbo", _metric(images), _metric(images), (images, None), TRAINED_AGAIN)
    assert (once.verdict, once.why) == (DIFFERENT, "figures of every image only then")


def test_figures_without_a_standard_error_or_a_value() -> None:
    def figure(value: float | None) -> dict[str, Any]:
        return {"value": value, "se": None, "n": 10, "unavailable": None if value else "no density"}

    def verdict(then: float | None, now: float | None) -> str:
        return judge("m", figure(then), figure(now), (None, None), TRAINED_AGAIN).verdict

    assert [verdict(14, now) for now in (14, 15, 16)] == [EQUAL, LOOSE, DIFFERENT]
    assert [verdict(0.8, now) for now in (0.80005, 0.839, 0.841)] == [ROUNDING, LOOSE, DIFFERENT]
    assert [verdict(None, None), verdict(0.8, None), verdict(None, 0.8)] == [EQUAL, DIFFERENT, DIFFERENT]
    assert judge("m", None, figure(1.0), (None, None), TRAINED_AGAIN).why == "not measured then"
    assert judge("m", figure(1.0), None, (None, None), TRAINED_AGAIN).verdict == DIFFERENT


def test_a_figure_of_an_older_definition_is_not_compared_and_one_of_an_unknown_definition_differs() -> None:
    def verdict(then: int, now: int) -> str:
        recorded, found = (
            {"value": value, "se": None, "n": 10, "version": v} for value, v in ((1.0, then), (9.0, now))
        )
        return judge("m", recorded, found, (None, None), SAME_WEIGHTS).verdict

    assert [verdict(1, 2), verdict(2, 2), verdict(0, 1), verdict(3, 2)] == [UNCOMPARED, *[DIFFERENT] * 3]


def test_leaves_name_every_setting_once() -> None:
    config = {"model": {"beta": 2, "net": {"width": 8}}, "callbacks": [], "trainer": {}}
    assert dict(leaves(config)) == {"model.beta": 2, "model.net.width": 8, "callbacks": [], "trainer": {}}
