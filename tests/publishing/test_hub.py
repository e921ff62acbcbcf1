"""`vaebench push` and `pull`: the real client against a server of the Hub's protocol on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fake_hub import TOKEN, FakeHub, answering, point, serving
from fake_records import write_fake
from huggingface_hub import ModelCard
from safetensors.numpy import load

from vaebench.cli import main
from vaebench.records import RECORD, canonical, read_records
from vaebench.records.claims import claimed
from vaebench.records.content import digest_of, rendered

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=<...>':DeprecationWarning"
)  # huggingface_hub 2.4's, of httpx


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The server, to which the client in this process speaks."""
    with answering(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained and measured, with its checkpoint."""
    tmp_path = tmp_path_factory.mktemp("source")
    fit = ["fit", "--data=digits", "--model=vae", "--model.latent=2", "--trainer.max_steps=5", f"--out={tmp_path}/runs"]
    assert main([*fit, "--trainer.accelerator=cpu"]) == 0
    (checkpoint,) = tmp_path.glob("runs/*/model.ckpt")
    evaluate = ["evaluate", str(checkpoint), "--protocol=quick", "--limit=20", "--k=5", "--device=cpu"]
    assert main([*evaluate, f"--results={tmp_path}/results"]) == 0
    place = next((tmp_path / "results").rglob(RECORD)).parent
    if not (place / "model.ckpt").exists():
        shutil.copy(checkpoint, place)
    return place


def _metadata(hub: FakeHub, repository: str) -> dict[str, Any]:
    _, head, _ = hub.repositories[repository]["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(head)


def test_a_record_goes_there_and_back_and_ranks_after_it_was_verified(
    source: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(source), "me/digits-vae"]) == 0
    assert capsys.readouterr().out.strip().startswith(f"{hub.address}/me/digits-vae/commit/")
    files = hub.repositories["me/digits-vae"]
    assert {"model.ckpt", "model.safetensors"} <= hub.lfs
    assert "card.json" in files
    assert main(["pull", "me/digits-vae", f"--results={tmp_path}/results"]) == 0
    said = capsys.readouterr().out
    (record,) = read_records(tmp_path / "results")
    assert str(record.path) in said
    assert claimed(record)
    (original,) = read_records(source)
    assert record.digest == original.digest
    assert not {"README.md", "model.safetensors"} & {path.name for path in Path(record.path or "").iterdir()}
    assert main(["verify", str(record.path), f"--out={tmp_path}/out"]) == 0
    assert not claimed(record)
    assert main(["pull", "me/digits-vae", f"--results={tmp_path}/results", "--revision=main"]) == 0
    assert "imported before" in capsys.readouterr().out


def test_the_weights_for_other_programs_are_those_of_the_checkpoint(source: Path, hub: FakeHub) -> None:
    assert main(["push", str(source), "me/digits-vae"]) == 0
    weights = load(hub.repositories["me/digits-vae"]["model.safetensors"])
    own = torch.load(source / "model.ckpt", weights_only=True)["state_dict"]
    assert weights.keys() == own.keys()
    for name, tensor in own.items():
        np.testing.assert_array_equal(weights[name], tensor.numpy())


def test_the_hub_can_show_every_metric_and_none_as_verified(source: Path, hub: FakeHub) -> None:
    assert main(["push", str(source), "me/digits-vae"]) == 0
    head = _metadata(hub, "me/digits-vae")
    assert (head["library_name"], head["pipeline_tag"]) == ("vaebench", "unconditional-image-generation")
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "unconditional-image-generation"
    assert result["dataset"] == {"name": "digits, binary", "type": "digits", "split": "test"}
    (record,) = read_records(source)
    shown = {metric["type"]: metric for metric in result["metrics"]}
    assert {name: metric["value"] for name, metric in shown.items()} == {
        name: record.value(name) for name in record.metrics if record.value(name) is not None
    }
    assert all(metric["verified"] is False for metric in shown.values())
    assert shown["elbo"]["name"] == "elbo, nats"
    assert shown["elbo"]["args"] == {"k": 5, "n": 20, "standard_error": record.error("elbo")}
    read = ModelCard(hub.repositories["me/digits-vae"]["README.md"].decode())
    assert len(read.data.eval_results or []) == len(shown), "the client reads them as results"


def test_a_card_is_pushed_as_it_is_and_a_private_repository_stays_so(hub: FakeHub, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>[a](javascript:alert(1))\"': {x: 1}"
    record = write_fake(tmp_path / "run", np.random.default_rng(1), variant=evil)
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    assert main(["push", f"{tmp_path}/card", "me/evil", "--private"]) == 0
    assert hub.private == {"me/evil"}
    files = hub.repositories["me/evil"]
    for path in (tmp_path / "card").iterdir():
        assert files[path.name] == path.read_bytes()
    assert _metadata(hub, "me/evil")["model-index"][0]["name"] == f"{evil}, seed 0"
    text = files["README.md"].decode().split("---\n", 2)[2]
    assert "<script" not in text.replace("\\<script", "")
    assert "](" not in text.replace("\\](", "")
    assert "vaebench pull me/evil" in text


def test_a_later_card_leaves_no_weights_of_the_former(source: Path, hub: FakeHub, tmp_path: Path) -> None:
    assert main(["push", str(source), "me/vae"]) == 0
    record = write_fake(tmp_path / "run", np.random.default_rng(1))
    assert main(["push", str(record.path), "me/vae"]) == 0
    assert not {"model.ckpt", "model.safetensors"} & hub.repositories["me/vae"].keys()
    assert len(hub.messages["me/vae"]) == 2
    assert main(["pull", "me/vae", f"--results={tmp_path}/results"]) == 0
    assert [one.digest for one in read_records(tmp_path / "results")] == [record.digest]


def _signed(body: dict[str, Any]) -> bytes:
    plain = {name: value for name, value in body.items() if name != "digest"}
    return json.dumps({**plain, "digest": hashlib.sha256(canonical(plain)).hexdigest()}).encode()


def test_what_a_strangers_repository_holds_is_not_trusted(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write_fake(tmp_path / "run", np.random.default_rng(1))
    assert main(["push", str(record.path), "me/vae"]) == 0
    files = hub.repositories["me/vae"]
    whole = dict(files)
    capsys.readouterr()

    def refused() -> str:
        assert main(["pull", "me/vae", f"--results={tmp_path}/results"]) == 2
        assert not (tmp_path / "results").exists()
        hub.sizes.clear()
        files.clear()
        files.update(whole)
        (line,) = capsys.readouterr().err.splitlines()
        return line

    files["samples.png"] = b"<svg>"
    assert "is no PNG" in refused()
    files[RECORD] = files[RECORD].replace(b'"seed": 0', b'"seed": 1')
    assert "record.json' is not what was exported" in refused()
    for name in ("../../evil.png", "/etc/passwd", ".ssh", "a/b.png"):
        body = json.loads(files["card.json"])
        body["files"][name] = "0" * 64
        files["card.json"], files[name] = _signed(body), b"x"
        assert "plain names" in refused()
    for harm in (b"[]", b"{}", b"{", b'{"files": 3}'):
        files["card.json"] = harm
        assert "is no card's" in refused()
    del files["card.json"]
    assert "has no card.json" in refused()
    hub.sizes["per_image.npz"] = 2**40
    assert "has 1,099,511,627,776 bytes, where a card has at most" in refused()
    hub.sizes["card.json"] = 2**40
    assert "'card.json' of 'me/vae' has 1,099,511,627,776 bytes" in refused()
    files["setup.py"] = b"raise SystemExit"
    files["run.pkl"] = b"x"
    assert main(["pull", "me/vae", f"--results={tmp_path}/results"]) == 0
    names = {path.name for path in (tmp_path / "results").rglob("*")}
    assert not {"setup.py", "run.pkl", "README.md"} & names


def test_a_card_that_names_a_command_is_neither_taken_nor_put_there(
    source: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copytree(source, tmp_path / "run"))
    body = json.loads((place / RECORD).read_bytes())
    command = {"class_path": "os.system", "init_args": {"command": f"touch {tmp_path}/ran"}}
    body["config"]["model"]["init_args"]["likelihood"] = command
    (place / RECORD).write_bytes(rendered({**body, "digest": digest_of(body)}))
    assert main(["export", str(place), f"--out={tmp_path}/card", "--checkpoint"]) == 0
    assert main(["push", f"{tmp_path}/card", "me/vae"]) == 2
    assert hub.repositories == {}
    hub.repositories["me/vae"] = {path.name: path.read_bytes() for path in (tmp_path / "card").iterdir()}
    assert main(["pull", "me/vae", f"--results={tmp_path}/results"]) == 2
    assert capsys.readouterr().err.count("'os.system': expected a class of vaebench's") == 2
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("hub")
def test_what_the_hub_declines_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_fake(tmp_path / "run", np.random.default_rng(1))

    def said(*words: str) -> str:
        assert main([*words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "no such repository" in said("pull", "me/gone", f"--results={tmp_path}/results")
    for odd in ("vae", "me/vae/more", "../x", "me/", "https://x/y", "me/v ae"):
        assert "is no repository of the Hub: expected OWNER/NAME" in said("pull", odd)
        assert "is no repository of the Hub: expected OWNER/NAME" in said("push", str(record.path), odd)
    assert main(["push", str(record.path), "me/vae"]) == 0
    capsys.readouterr()
    assert "no such repository or revision" in said("pull", "me/vae", "--revision=v9", f"--results={tmp_path}/results")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the token may not do this" in said("push", str(record.path), "me/vae")
    point(monkeypatch, "http://127.0.0.1:9")
    assert "cannot be reached" in said("pull", "me/vae", f"--results={tmp_path}/results")


def test_without_the_package_one_sentence_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["pull", "me/vae", f"--results={tmp_path}/results"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs the package 'huggingface_hub', which is not installed; `pip install \"vaebench[hub]\"`" in line


def test_the_address_of_the_hub_is_that_of_the_environment(tmp_path: Path) -> None:
    """As a user calls it: another process, with HF_ENDPOINT and HF_TOKEN, and Xet switched off."""
    record = write_fake(tmp_path / "run", np.random.default_rng(1))
    with serving(FakeHub()) as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": f"{tmp_path}/home",
               "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}  # fmt: skip
        for words in (["push", str(record.path), "me/vae"], ["pull", "me/vae", "--results=results"]):
            done = subprocess.run(
                [sys.executable, "-m", "vaebench", *words], cwd=tmp_path, env=env, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""
        assert hub.unknown == []
    assert [one.digest for one in read_records(tmp_path / "results")] == [record.digest]
