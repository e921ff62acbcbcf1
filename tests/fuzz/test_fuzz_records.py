"""A record, a card or a checkpoint with anything wrong in it is read, left out by name, or answered in one sentence."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_records import write_fake
from fuzz import BUDGET, CONFIGS, Content, Outcome, broken, cases, obeys, run, torn
from hypothesis import strategies as st

from vaebench.leaderboard.formats import FORMATS
from vaebench.records import RECORD, canonical
from vaebench.reproduction.cards import CARD

VAE = f"{CONFIGS}/family/vae.yaml"
READERS = [
    ["leaderboard", "results"],
    ["leaderboard", "results", "--html=page.html"],
    ["leaderboard", "results", "--budget=flops"],
    *(["leaderboard", "results", f"--format={form}"] for form in FORMATS),
    ["plan", "vae", "iwae", "--results=results", "--sd=1"],
    ["compare", "vae", "iwae", "--results=results"],
    ["compare", "vae", "iwae", "--results=results", "--html=page.html"],
    ["export", "results/vae-s0", "--out=card"],
    ["verify", "results/vae-s0", "--out=again"],
    ["reproduce", "results/vae-s0", "--out=again"],
]


def _signed(body: Any) -> bytes:
    """A record or a card with a digest that fits, where its content has one."""
    if isinstance(body, dict):
        plain = {name: value for name, value in body.items() if name != "digest"}
        try:
            body = {**plain, "digest": hashlib.sha256(canonical(plain)).hexdigest()}
        except ValueError:
            body = plain  # a figure that is not finite
    return (json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def _json(tree: Any) -> Any:
    return json.loads(json.dumps(tree, default=str, skipkeys=True))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two sound records."""
    results, rng = tmp_path_factory.mktemp("records"), np.random.default_rng(0)
    for name in ("vae", "iwae"):
        write_fake(results / f"{name}-s0", rng, variant=name)
    return results


@cases(few=8, many=200)
def test_a_record_is_read_or_left_out_by_name(count: int, records: Path) -> None:
    body = json.loads((records / "vae-s0" / RECORD).read_bytes())
    files = {name: (records / "vae-s0" / name).read_bytes() for name in (RECORD, "per_image.npz")}
    wrong = broken(body).map(lambda body: (RECORD, _signed(_json(body))))
    cut = st.sampled_from(sorted(files)).flatmap(lambda name: torn(files[name]).map(lambda content: (name, content)))

    def read(case: tuple[tuple[str, bytes], list[str]], folder: Path) -> Outcome:
        (name, content), command = case
        shutil.copytree(records, folder / "results")
        (folder / "results" / "vae-s0" / name).write_bytes(content)
        return run(*command)

    obeys(st.tuples(wrong | wrong | cut, st.sampled_from(READERS)), count, read)


@cases(few=6, many=100)
def test_a_card_is_imported_or_refused(count: int, records: Path, tmp_path: Path) -> None:
    assert run("export", str(records / "vae-s0"), f"--out={tmp_path}/card").code == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "card").iterdir()}
    record, card = (json.loads(files[name]) for name in (RECORD, CARD))

    def forged(body: Any) -> dict[str, bytes]:
        """A card whose record says something else, with every sum and digest made to fit."""
        raw = _signed(_json(body))
        sums = {**card["files"], RECORD: hashlib.sha256(raw).hexdigest()}
        return {RECORD: raw, CARD: _signed({**card, "files": sums})}

    cut = st.sampled_from(sorted(files)).flatmap(lambda name: torn(files[name]).map(lambda content: {name: content}))
    wrong = broken(card).map(lambda body: {CARD: _signed(_json(body))}) | broken(record).map(forged)

    def take(case: dict[str, bytes], folder: Path) -> Outcome:
        shutil.copytree(tmp_path / "card", folder / "card")
        for name, content in case.items():
            (folder / "card" / name).write_bytes(content)
        return run("import", "card", "--results=results")

    obeys(wrong | cut, count, take)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two steps."""
    out = tmp_path_factory.mktemp("runs")
    assert run("fit", f"--config={VAE}", "--data=digits", "--model.latent=3", *BUDGET, f"--out={out}").code == 0
    (found,) = out.rglob("model.ckpt")
    return found


@cases(few=8, many=200)
def test_a_checkpoint_is_evaluated_or_refused(count: int, checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)

    def saved(tree: Any) -> bytes:
        buffer = io.BytesIO()
        torch.save(tree, buffer)
        return Content(buffer.getvalue())

    def evaluate(raw: bytes, folder: Path) -> Outcome:
        (folder / "model.ckpt").write_bytes(raw)
        return run("evaluate", "model.ckpt", "--protocol=quick", "--k=2", "--limit=4", "--results=results")

    wrong = broken(content).map(saved)
    obeys(wrong | wrong | torn(checkpoint.read_bytes()), count, evaluate)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("state_dict",), "is not a checkpoint that vaebench wrote"),
        (("hyper_parameters",), "is not a checkpoint that vaebench wrote"),
        (("hyper_parameters", "data"), "is not a checkpoint that vaebench wrote"),
        (("vaebench",), "does not say how it was trained"),
        (("vaebench", "data", "hashes"), "lacks data.hashes, in what it says of its run"),
        (("vaebench", "curves"), "lacks curves, in what it says of its run"),
        (("vaebench", "started"), "lacks started, in what it says of its run"),
        (("vaebench", "curves", "val/elbo", "step"), "lacks curves.val/elbo.step, in what it says of its run"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_a_checkpoint_with_a_missing_key_is_refused(
    place: tuple[str, ...], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    torch.save(content, tmp_path / "model.ckpt")
    outcome = run("evaluate", str(tmp_path / "model.ckpt"), "--protocol=quick", f"--results={tmp_path}/results")
    assert outcome.kind == "refusal", outcome
    assert message in outcome.err


@pytest.mark.parametrize(
    "wrong", [{"shape": -1}, {"shape": [1, "8", 8]}, {"shape": [1, 8, 8], "zzz": 1}, {"size": "many"}]
)
def test_a_checkpoint_whose_images_are_described_wrongly_is_refused(
    wrong: dict[str, Any], checkpoint: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["data"]["init_args"] |= wrong
    torch.save(content, tmp_path / "model.ckpt")
    outcome = run("evaluate", str(tmp_path / "model.ckpt"), "--protocol=quick", f"--results={tmp_path}/results")
    assert outcome.kind == "refusal", outcome
    assert "is not a checkpoint that vaebench wrote" in outcome.err


@pytest.mark.parametrize("value", [b"0", (1,), {1}, 1j, torch.ones(2)], ids=lambda value: type(value).__name__)
def test_a_checkpoint_with_a_value_of_another_type_than_json_has_is_refused(
    value: Any, checkpoint: Path, tmp_path: Path
) -> None:
    """Bytes where a text is expected ended in a KeyError; the account of a run comes from a file that may hold them."""
    content = torch.load(checkpoint, weights_only=True)
    content["vaebench"]["started"] = value
    torch.save(content, tmp_path / "model.ckpt")
    outcome = run("evaluate", str(tmp_path / "model.ckpt"), "--protocol=quick", f"--results={tmp_path}/results")
    assert outcome.kind == "refusal", outcome
    assert f"has a value of type {type(value).__name__} at started" in outcome.err


def test_a_card_that_is_a_number_is_no_card(records: Path, tmp_path: Path) -> None:
    assert run("export", str(records / "vae-s0"), f"--out={tmp_path}/card").code == 0
    (tmp_path / "card" / CARD).write_text("-1")
    outcome = run("import", f"{tmp_path}/card", f"--results={tmp_path}/results")
    assert outcome.kind == "refusal", outcome
    assert "its card.json lacks what a card says" in outcome.err
