"""Code of a user's own: found where they name it, part of what was run, and run for nobody else's file."""

from __future__ import annotations

import gc
import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import vaebench as vb
from vaebench.cli import main
from vaebench.configuration import gate, own, parts, registered
from vaebench.configuration.discovery import find_class, names
from vaebench.errors import UserError
from vaebench.training.experiment import experiment

FAMILY = '''
from typing import Any

from helper_of_mine import HALF
from vaebench.core import DataSpec, Family, Step


class MyVAE(Family):
    """Half the rate.

    Args:
        data: the images.
        weight: of the rate.
        parts: as `Family` takes them.
    """

    def __init__(self, data: DataSpec, weight: float = HALF, **parts: Any) -> None:
        super().__init__(data, **parts)
        self.hyper(weight=weight)

    def step(self, x, y, t):
        terms = self.terms(x, y, 1)
        return Step({"model": (terms.distortion + self.weight * terms.rate).mean()}, terms.logs)
'''
NETWORK = """
from math import prod

from torch import nn


class Plain(nn.Module):
    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...], width: int = 9):
        super().__init__()
        self.axes, self.outputs = len(inputs), outputs
        self.layers = nn.Sequential(nn.Linear(prod(inputs), width), nn.Tanh(), nn.Linear(width, prod(outputs)))

    def forward(self, x):
        return self.layers(x.flatten(-self.axes)).unflatten(-1, self.outputs)
"""
FAST = ["--data=digits", "--model.latent=2", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def folder(newcomer: Path) -> Iterator[Path]:
    """A working folder with a family in it, in a process that has met neither."""
    (newcomer / "mine_of_test.py").write_text(FAMILY)
    (newcomer / "helper_of_mine.py").write_text("HALF = 0.5\n")
    yield newcomer
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.endswith(("_of_test", "_of_mine"))]:
        del sys.modules[name]
    shutil.rmtree("__pycache__", ignore_errors=True)


def _edit(file: str, text: str) -> None:
    Path(file).write_text(text)
    _forget()


@pytest.mark.parametrize(
    "argv",
    [
        ["--model=mine_of_test.MyVAE"],
        ["--include=mine_of_test.py", "--model=my"],
        ["--include", "mine_of_test.py", "--model", "MyVAE"],
    ],
)
def test_a_family_trains_by_its_path_from_the_working_folder_or_by_its_name_from_a_file(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *argv, *FAST]) == 0
    first, _, hint = capsys.readouterr().out.splitlines()
    assert "digits-MyVAE-s0-" in first
    assert hint.endswith("--trust mine_of_test.MyVAE")
    assert type(vb.load(first)).__name__ == "MyVAE", "what this process was told to train, it loads"


def test_any_module_of_torchs_is_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: a network had to derive from vaebench's own base, and was an unknown one otherwise."""
    Path("network_of_mine.py").write_text(NETWORK)
    net = "network_of_mine.Plain"
    parts = ["--model.posterior=DiagonalGaussian", f"--model.posterior.net={net}", "--model.posterior.net.width=5",
             "--model.likelihood=Bernoulli", f"--model.likelihood.net={net}"]  # fmt: skip
    assert main(["fit", "--model=vae", *parts, *FAST]) == 2
    assert "Plain has no 'output_bias' to start at the data's mean" in capsys.readouterr().err
    assert main(["fit", "--model=vae", *parts, *FAST, "--model.likelihood.start_at_mean=false"]) == 0
    model = vb.load(capsys.readouterr().out.splitlines()[0])
    assert [type(part.net).__name__ for part in (model.posterior, model.likelihood)] == ["Plain", "Plain"]
    assert model.posterior.net.layers[0].out_features == 5
    _edit("network_of_mine.py", NETWORK.replace(": tuple[int, ...]", ""))
    assert main(["fit", "--model=vae", *parts, *FAST, "--model.likelihood.start_at_mean=false"]) == 2
    assert "Plain takes 'inputs' without a type, and its checkpoint could not be loaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("net", "width"),
    [
        (["network_of_mine.Plain"], 9),
        (["{class_path: network_of_mine.Plain, init_args: {width: 4}}"], 4),
        (["network_of_mine.Plain", "--model.posterior.net.width", "5"], 5),
        (["vaebench.networks.GatedMLP"], 200),
    ],
)
def test_a_network_of_ones_own_has_its_own_defaults(net: list[str], width: int) -> None:
    """Defect: it had the width of the default MLP in whose place it stands, as the suite's own networks have."""
    Path("network_of_mine.py").write_text(NETWORK)
    job = experiment(["--model=vae", *FAST, "--model.posterior.net", *net])
    assert job.plain["model"]["init_args"]["posterior"]["init_args"]["net"]["init_args"]["width"] == width


def test_an_included_part_is_listed_and_found_like_all_others() -> None:
    Path("more_of_test.py").write_text(
        'from vaebench.networks import MLP\nfrom vaebench.priors import StandardNormal\n\n'
        'class Wide(MLP):\n    """A wide one."""\n\nclass Other(StandardNormal):\n    """Another one."""\n'
    )  # fmt: skip
    own.include("mine_of_test.py")
    own.include("more_of_test.py")
    assert "MyVAE" in names("family")
    assert "mine_of_test" not in sys.modules, "to be listed it is read, and not imported"
    assert [part.path for part in parts.own_parts()] == [
        "mine_of_test.MyVAE", "more_of_test.Other", "more_of_test.Wide",
    ]  # fmt: skip
    assert find_class("family", "myvae").__module__ == "mine_of_test"
    model = vb.build("MyVAE", "digits", latent=2, prior="Other", likelihood={"class_path": "Bernoulli"})
    assert type(model.prior).__module__ == "more_of_test"


def test_a_plugin_of_an_installed_package_is_listed_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    point = EntryPoint(name="mine", value="mine_of_test", group=own.PLUGINS)
    monkeypatch.setattr(own, "entry_points", lambda group: [point] if group == own.PLUGINS else [])
    own.plugins.cache_clear()
    try:
        assert "MyVAE" in names("family")
        assert "mine_of_test" not in sys.modules
        assert experiment(["--model=MyVAE", *FAST]).plain["model"]["class_path"] == "mine_of_test.MyVAE"
    finally:
        own.plugins.cache_clear()


BROKEN = {
    "mine_of_test.MyVEA": "unknown class 'mine_of_test.MyVEA'; did you mean mine_of_test.MyVAE",
    "nowhere_of_test.MyVAE": "there is no module 'nowhere_of_test'",
}


@pytest.mark.parametrize("path", BROKEN)
@pytest.mark.parametrize("where", ["argument", "file"])
def test_a_path_of_nothing_is_answered(path: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(f"model: {{class_path: {path}}}")
    assert main(["fit", f"--model={path}" if where == "argument" else "--config=c.yaml", *FAST]) == 2
    assert BROKEN[path] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all', in line 1 of"),
        ("HALF = 1 / 0", "ZeroDivisionError: division by zero, in line 1 of"),
        ("HALF = (", "SyntaxError: '(' was never closed"),
    ],
)
def test_a_broken_import_is_no_unknown_family(text: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: it was answered "unknown family"."""
    _edit("helper_of_mine.py", text)
    assert main(["fit", "--model=mine_of_test.MyVAE", *FAST]) == 2
    error = capsys.readouterr().err
    assert f"'mine_of_test' fails when it is imported ({reason}" in error
    assert "helper_of_mine.py" in error


@pytest.mark.parametrize(
    ("file", "sentence"),
    [("nowhere.py", "expected a Python file"), ("my-vae.py", "is none of a module"), ("json.py", "already")],
)
def test_a_file_that_cannot_be_included_is_refused(file: str, sentence: str) -> None:
    Path("my-vae.py").touch()
    Path("json.py").touch()
    with pytest.raises(UserError, match=sentence):
        own.include(file)


def test_a_file_that_python_finds_by_itself_is_no_other_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: `python -m vaebench`, which looks for modules in the working folder, refused to include a file of it."""
    monkeypatch.syspath_prepend(Path.cwd())
    assert own.include("mine_of_test.py") == "mine_of_test"
    Path("json.py").touch()
    with pytest.raises(UserError, match=r"another module is called 'json' already \(.*json"):
        own.include("json.py")


def test_a_family_that_could_not_be_loaded_again_is_refused_before_the_first_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Defect: without a type for `data` it trained, and its checkpoint could not be read."""
    _edit("mine_of_test.py", FAMILY.replace("data: DataSpec", "data"))
    assert main(["fit", "--model=mine_of_test.MyVAE", *FAST]) == 2
    assert "MyVAE takes 'data' without a type" in capsys.readouterr().err
    assert not list(Path().rglob("*.ckpt"))


def test_a_record_names_own_code_in_vain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model=mine_of_test.MyVAE", *FAST]) == 0
    checkpoint = capsys.readouterr().out.splitlines()[0]
    registered.REGISTERED.clear()
    _forget()
    with pytest.raises(UserError, match="name it with --trust"):
        vb.load(checkpoint)
    assert "mine_of_test" not in sys.modules
    vb.trust("mine_of_test.MyVAE")
    assert float(vb.load(checkpoint).weight) == 0.5


def test_an_edited_module_is_another_run() -> None:
    """Defect: an edited objective, or what it imports, was answered "holds this very run already"."""

    def identity() -> str:
        job = experiment(["--model=mine_of_test.MyVAE", *FAST])
        return job.identity(job.build()[1])

    first = identity()
    assert identity() == first
    _edit("helper_of_mine.py", "HALF = 0.5  # as before\n")
    second = identity()
    _edit("mine_of_test.py", f"{FAMILY}\n# edited\n")
    assert len({first, second, identity()}) == 3


def test_the_source_of_a_module_is_that_of_its_last_import() -> None:
    """Defect: a module imported anew where one of its name had lain in memory had the text of that one."""

    def source() -> str:
        return own.sources("helper_of_mine.HALF")["helper_of_mine"]

    for number in range(20):
        _edit("helper_of_mine.py", text := f"HALF = {number}\n")
        own.require_class("helper_of_mine.HALF")
        assert source() == text
        gc.collect()
    module = importlib.import_module("helper_of_mine")
    Path("helper_of_mine.py").write_text("HALF = 0.125\n")
    assert source() == text, "what runs is what was imported, whatever the file says by now"
    assert importlib.reload(module).HALF == 0.125
    assert source() == "HALF = 0.125\n"


def test_a_run_of_the_suites_own_classes_has_no_sources() -> None:
    job = experiment(["--model=vae", *FAST])
    assert job.sources == {}
    assert "sources" not in job.plain


def test_sources_are_kept_in_the_record_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model=mine_of_test.MyVAE", *FAST]) == 0
    checkpoint = capsys.readouterr().out.splitlines()[0]
    evaluate = ["evaluate", checkpoint, "--k=2", "--limit=20", "--protocol=quick", "--results=r"]
    assert main(evaluate) == 0
    (place,) = Path("r").rglob("record.json")
    record = json.loads(place.read_text())
    assert record["family"] == "MyVAE"
    texts = {name: json.loads(text) for name, text in record["sources"].items()}
    assert texts == {"helper_of_mine": "HALF = 0.5\n", "mine_of_test": FAMILY}
    assert record["config"]["sources"] == own.hashed(texts)
    assert main(["verify", str(place), f"--checkpoint={checkpoint}", "--out=v"]) == 0
    _edit("helper_of_mine.py", "HALF = 0.25\n")
    for argv in (["verify", str(place), f"--checkpoint={checkpoint}", "--out=w"],
                 ["reproduce", str(place), "--out=w"], [*evaluate, "--seed=1"]):  # fmt: skip
        capsys.readouterr()
        _forget()
        assert main(argv) == 2
        assert "the module 'helper_of_mine' is not the one that" in capsys.readouterr().err
    _edit("helper_of_mine.py", "HALF = 0.5  # as before\n")
    assert main(["fit", "--model=mine_of_test.MyVAE", *FAST]) == 0
    said = capsys.readouterr()
    assert "already" not in said.out
    former = f"{Path(checkpoint).parent} has the same settings with other code of yours (helper_of_mine, mine_of_test)"
    assert former in said.err, "Defect: an interrupted run of the code as it was before was left behind without a word"


@pytest.mark.parametrize("sources", ["text", {"os": "rm"}, {"a b": "0" * 64}, ["a"]])
def test_hashes_of_a_file_are_hashes(sources: object) -> None:
    config = {"model": {"class_path": "vaebench.families.vae.VAE"}, "sources": sources,
              "data": {"class_path": "vaebench.data.digits.Digits"}}  # fmt: skip
    with pytest.raises(UserError, match="has sources"):
        gate.vetted_run(config, "it")
