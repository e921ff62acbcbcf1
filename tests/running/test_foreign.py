"""Models from elsewhere: records of what a function builds, and of what Python hands over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import vaebench as vb
from vaebench.adapters import Autoencoder, of_logits
from vaebench.adapters.parts import networks
from vaebench.cli import main
from vaebench.configuration.gate import vetted_run
from vaebench.errors import UserError
from vaebench.leaderboard.boards import boards
from vaebench.records import read_records
from vaebench.reproduction.cards import export_card, import_card

TEXT = """
import torch
from torch import nn
from vaebench.adapters import of_logits

def build(seed=0):
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    decoder = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(-1, (1, 8, 8)))
    return {"encoder": lambda x: encoder(x).chunk(2, -1), "decoder": decoder, "density": of_logits, "latent": 4}

def other(spec):
    assert spec.shape == (1, 8, 8)
    return build(1)

def fails():
    raise RuntimeError("no weights")

def wrong():
    return nn.Linear(2, 2)

def short():
    return {"encoder": nn.Identity()}
"""
QUICK = ["--protocol", "quick", "--k", "10", "--limit", "20", "--data", "digits", "--data.measure", "binary"]


def evaluated(*arguments: str) -> int:
    return main(["evaluate", *QUICK, *arguments])


def test_two_foreign_models_rank_beside_each_other_and_travel_as_cards(newcomer: Path) -> None:
    (newcomer / "theirs.py").write_text(TEXT)
    assert evaluated("--adapter", "theirs.py:build") == 0
    assert evaluated("--adapter", "theirs.py:other", "--name", "second") == 0
    first, second = read_records("results")
    assert {first.variant, second.variant} == {"theirs", "second"}
    assert [json.loads(text) for text in first.sources.values()] == [TEXT]
    assert first.config["data"]["init_args"]["measure"] == "binary"
    (board, *_) = boards([first, second])
    assert len(board.rows) == 2
    assert main(["leaderboard", "results"]) == 0
    place, known = import_card(export_card(first, Path("card")), Path("elsewhere"))
    assert (place.is_dir(), known) == (True, False)
    with pytest.raises(UserError, match="trained elsewhere"):
        vetted_run(first.config, "it")
    assert main(["verify", str(first.path)]) == main(["reproduce", str(first.path)]) == 2


def test_a_record_is_verified_where_its_model_is_handed_over_again(
    newcomer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (newcomer / "theirs.py").write_text(TEXT)
    assert evaluated("--adapter", "theirs.py:build") == 0
    (record,) = read_records("results")
    capsys.readouterr()
    for words, code, sentence in (
        ([], 2, "give `vaebench verify` the model itself again, as --adapter"),
        (["--adapter", "theirs.py:build"], 0, ""),
        (["--adapter", "theirs.py:other"], 2, "is not the one that record"),
        (["--adapter", "theirs.py:build", "--checkpoint", "model.ckpt"], 2, "are two models"),
    ):
        assert main(["verify", str(record.path), *words]) == code
        said = capsys.readouterr().err
        assert sentence in said
        assert "does not follow from" not in said, "Defect: the id was taken for that of a model of vaebench's"
    (again,) = read_records("runs/verified")
    assert (again.id, again.metrics) == (record.id, record.metrics)


def test_a_record_of_images_that_python_handed_over_says_how_it_is_measured_again(
    newcomer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (newcomer / "theirs.py").write_text(TEXT)
    parts = {"encoder": Theirs().encode, "decoder": Theirs().decode, "density": of_logits, "latent": 4}
    record = vb.record(parts, BITS, "theirs", "quick", "results", k=4, progress=False)
    assert main(["verify", str(record.path), "--adapter", "theirs.py:build"]) == 2
    assert "hand them to vb.record again" in capsys.readouterr().err


def test_a_second_evaluation_reads_the_record_and_seeds_share_a_row(newcomer: Path) -> None:
    (newcomer / "theirs.py").write_text(TEXT)
    for _ in range(2):
        assert evaluated("--adapter", "theirs.py:build", "--name", "one", "--trained-seed", "3") == 0
    (record,) = read_records("results")
    assert record.seed == 3
    assert evaluated("--adapter", "theirs.py:build", "--name", "one", "--trained-seed", "4") == 0
    (board, *_) = boards(read_records("results"))
    assert [len(row.records) for row in board.rows] == [2]


SENTENCES = {
    "fails": "fails .RuntimeError: no weights, in line",
    "wrong": "gives a Linear without posterior, prior, likelihood",
    "short": "gives a table of encoder",
    "nothing": "unknown class 'theirs.nothing'",
}


@pytest.mark.parametrize("function", SENTENCES)
def test_what_builds_no_model_is_answered_with_a_sentence(
    newcomer: Path, capsys: pytest.CaptureFixture[str], function: str
) -> None:
    (newcomer / "theirs.py").write_text(TEXT)
    assert evaluated("--adapter", f"theirs.py:{function}") == 2
    assert SENTENCES[function].replace(".", "") in capsys.readouterr().err.replace("(", "").replace(".", "")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--adapter", "theirs.py:build"], "--adapter has no images"),
    (["a.ckpt", "--data.measure", "binary"], "--data.measure=binary is for a model from elsewhere"),
    (["a.ckpt", "--name", "x"], "--name is for a model from elsewhere"),
    (["a.ckpt", "--adapter", "theirs.py:build", "--data", "digits"], "there are two models"),
    ([], "there is no model"),
    (["--adapter", "theirs.py:build", "--data", "digits", "--name", "../x"], "cannot name a record"),
    (["--adapter", "theirs.py:build", "--data", "digits", "--data.measur", "binary"], "unknown key 'measur'"),
])  # fmt: skip
def test_arguments_that_do_not_go_together_are_answered(
    newcomer: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    (newcomer / "theirs.py").write_text(TEXT)
    assert main(["evaluate", *arguments]) == 2
    assert sentence in capsys.readouterr().err


class Theirs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(64, 8), nn.Linear(4, 64)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.down(x.flatten(1)).chunk(2, -1)

    def decode(self, z: Tensor) -> Tensor:
        return self.up(z).unflatten(-1, (1, 8, 8))


BITS = (torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def test_a_record_from_python_equals_an_evaluation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = Theirs()
    parts = {"encoder": theirs.encode, "decoder": theirs.decode, "density": of_logits, "latent": 4}
    record = vb.record(parts, BITS, "theirs", "quick", tmp_path, k=10, progress=False)
    found = vb.evaluate(parts, BITS, "quick", k=10, progress=False)
    assert record.value("log_likelihood") == found.metrics["log_likelihood"].value
    assert record.cost["parameters"] == sum(p.numel() for p in theirs.parameters())
    with torch.no_grad():
        theirs.up.bias += 1
    other = vb.record(parts, BITS, "theirs", "quick", tmp_path, k=10, progress=False)
    assert other.id != record.id


@pytest.mark.parametrize("kind", ["tensor", "array", "list", "bool", "flat", "dataset", "loader", "bytes"])
def test_images_of_any_kind_are_the_same_images(kind: str) -> None:
    y = torch.arange(20) % 3
    ways = {
        "tensor": lambda: vb.images(BITS),
        "array": lambda: vb.images(BITS.numpy()),
        "list": lambda: vb.images(BITS.tolist()),
        "bool": lambda: vb.images(BITS.bool()),
        "flat": lambda: vb.images(BITS[:, 0]),
        "dataset": lambda: vb.images(TensorDataset(BITS, y)),
        "loader": lambda: vb.images(DataLoader(TensorDataset(BITS), batch_size=7)),
        "bytes": lambda: vb.images((255 * BITS).byte(), measure="discrete256"),
    }
    found = ways[kind]()
    assert torch.equal(found.images("test"), BITS)
    assert found.spec.measure == ("discrete256" if kind == "bytes" else "binary")
    labels = found.labels("test")
    assert labels is None if kind != "dataset" else torch.equal(labels, y)


def test_numbers_without_a_measure_are_asked_about() -> None:
    with pytest.raises(UserError, match="may be of any measure"):
        vb.images(BITS * 0.5)
    assert torch.allclose(vb.images(2 * BITS - 1, "binary", range=(-1, 1)).images("test"), BITS)
    with pytest.raises(UserError, match="images are a str"):
        vb.images("digits")


def test_networks_are_found_in_methods_closures_and_the_functions_that_they_call() -> None:
    theirs = Theirs()

    def inner(x: Tensor) -> Tensor:
        return theirs.decode(x)

    assert list(networks(theirs.encode, lambda x: inner(x))) == [theirs]
    assert Autoencoder(theirs.encode, theirs.decode, latent=4).prior().event_shape == (4,)
