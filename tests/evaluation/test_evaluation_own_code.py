"""Metrics of the user's own, by path in a protocol: what they give, what a record keeps, and whose word it takes."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import Data, LinearGaussian

import vaebench as vb
from vaebench.cli import main
from vaebench.configuration import registered
from vaebench.core import DataSpec
from vaebench.errors import UserError
from vaebench.evaluation import read_protocol
from vaebench.evaluation.protocol import recorded_protocol

FILE = '''
from pathlib import Path

import torch

from vaebench.evaluation.metrics import MetricKind

Path("imported").touch()


def brightness(model, x, power=1):
    """Mean of an image's values to some power, {not} more.

    Further lines are for readers.
    """
    return x.flatten(1).pow(power).mean(1)


def count(model, x):
    return len(x)


def wide(model, x):
    return x


def fails(model, x):
    return {}["there is none"]


class Spread:
    """Two figures of the images."""

    KINDS = {
        "spread": MetricKind("", True, "standard deviation of an image's values, times {factor}"),
        "spread_largest": MetricKind("", None, "the largest"),
    }

    def __init__(self, factor=1.0):
        self.factor = factor

    def measure(self, subject, findings):
        values = self.factor * subject.x.flatten(1).std(1)
        findings.average("spread", values, factor=self.factor)
        findings.single("spread_largest", float(values.max()), len(values))


class Borrowed:
    KINDS = {"elbo": MetricKind("", True, "something else")}

    def measure(self, subject, findings):
        findings.single("elbo", 0.0, 1)


class Empty:
    pass
'''
X = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
ONLY = dict.fromkeys(("likelihood", "units", "collapse", "reconstruction", "samples"))


@pytest.fixture
def mine(newcomer: Path) -> Path:
    """A file of metrics in the working folder, which nobody has named yet."""
    (newcomer / "my_metrics.py").write_text(FILE)
    return newcomer / "my_metrics.py"


def measured(**own: Any) -> vb.Report:
    data = Data(X, DataSpec((1, 4, 4), "continuous"))
    return vb.evaluate(LinearGaussian(), data, "quick", measurements={**ONLY, **own})


@pytest.mark.usefixtures("mine")
def test_a_function_gives_the_mean_of_its_values_and_a_class_all_its_figures() -> None:
    found = measured(
        energy={
            "class_path": "my_metrics:brightness",
            "init_args": {"power": 2},
            "higher_is_better": False,
            "unit": "u",
        },
        images={"class_path": "my_metrics.count"},
        anything={"class_path": "my_metrics.Spread", "init_args": {"factor": 3.0}},
    )
    energy, values = found.metrics["energy"], X.double().flatten(1).square().mean(1)
    assert (energy.value, energy.se) == pytest.approx((float(values.mean()), float(values.std()) / 20**0.5), rel=1e-5)
    assert (energy.unit, energy.higher_is_better) == ("u", False)
    assert energy.definition == "Mean of an image's values to some power, {not} more."
    assert found.metrics["images"].value == 20
    assert found.per_image["spread"] == pytest.approx(3 * X.flatten(1).std(1).numpy(), rel=1e-5)
    assert found.metrics["spread"].definition.endswith("times 3.0")
    assert found.metrics["spread_largest"].value == pytest.approx(float(found.per_image["spread"].max()))


def test_its_source_is_part_of_what_was_measured(mine: Path) -> None:
    settings = {"energy": {"class_path": "my_metrics:brightness"}}
    first = read_protocol("quick", measurements=settings)
    expected = {"my_metrics": hashlib.sha256(FILE.encode()).hexdigest()}
    assert first.measurements["energy"] == {
        "class_path": "my_metrics.brightness", "init_args": {}, "sources": expected
    }  # fmt: skip
    assert first.sources == {"my_metrics": FILE}
    assert json.loads(json.dumps(first.config)) == first.config
    del sys.modules["my_metrics"]
    mine.write_text(FILE.replace("mean(1)", "amax(1)"))
    assert read_protocol("quick", measurements=settings).config != first.config
    with pytest.raises(UserError, match="the code of its measurement 'energy' is not the one that is here"):
        recorded_protocol({**first.config, "n": 20}, 20)


def test_what_was_recorded_is_measured_again_where_the_user_names_its_code(mine: Path) -> None:
    first = read_protocol("quick", measurements={"energy": {"class_path": "my_metrics:brightness"}})
    assert recorded_protocol({**first.config, "n": 1000}, 2000).config == first.config
    registered.REGISTERED.discard("my_metrics.brightness")
    del sys.modules["my_metrics"]
    (mine.parent / "imported").unlink()
    with pytest.raises(UserError, match=r"'the record' has the code 'my_metrics.brightness'.*--include"):
        recorded_protocol({**first.config, "n": 1000}, 2000)
    assert not (mine.parent / "imported").exists()


HOSTILE: dict[str, str] = {
    "a measurement": "measurements: {energy: {class_path: 'my_metrics:brightness'}}",
    "with dots": "measurements: {energy: {class_path: my_metrics.brightness}}",
    "a network of features": "measurements: {tokenizer: {features: 'my_metrics:brightness'}}",
    "a command": "measurements: {energy: {class_path: 'os:system'}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_protocols_file_names_code_in_vain(name: str, mine: Path) -> None:
    Path("theirs.yaml").write_text(HOSTILE[name])
    with pytest.raises(UserError, match=r"is not run because a file says so.*--include"):
        read_protocol("theirs.yaml")
    assert not (mine.parent / "imported").exists()


def test_the_command_names_it_beside_the_file(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line to a record that keeps the text, and a board of the figure."""
    Path("mine.yaml").write_text(
        "measurements: {reconstruction: {}, energy: {class_path: 'my_metrics:brightness', higher_is_better: true}}"
    )
    Path("theirs.py").write_text(
        "import torch\n\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return {'encoder': torch.nn.Flatten(), 'decoder': torch.nn.Unflatten(1, (1, 8, 8))}\n"
    )
    command = [
        "evaluate",
        "--adapter",
        "theirs.py:build",
        "--data",
        "digits",
        "--limit",
        "30",
        "--protocol",
        "mine.yaml",
    ]
    assert main(command) == 2
    assert "my_metrics.brightness" in capsys.readouterr().err
    assert main([*command, "--include", str(mine), "--results", "results"]) == 0
    (path,) = Path("results").rglob("record.json")
    record = json.loads(path.read_text())
    assert record["metrics"]["energy"]["value"] > 0
    assert json.loads(record["sources"]["my_metrics"]) == FILE
    assert set(record["config"]["sources"]) == {"theirs"}
    assert main(["leaderboard", "results", "--metric", "energy"]) == 0
    assert "energy" in capsys.readouterr().out


WRONG: dict[str, tuple[Any, str]] = {
    "no module": ({"class_path": "nowhere:sharpness"}, "there is no module 'nowhere'"),
    "no name": ({"class_path": "my_metrics:sharpness"}, "unknown class 'my_metrics.sharpness'"),
    "no path": ({"class_path": "sharpness"}, "energy.class_path is 'sharpness': expected a class with KINDS"),
    "no measurement": ({"class_path": "my_metrics.Empty"}, "'my_metrics.Empty' is no measurement"),
    "a module": ({"class_path": "my_metrics.torch"}, "'my_metrics.torch' is a module: expected a class"),
    "a figure of the suite's": ({"class_path": "my_metrics.Borrowed"}, "gives a metric 'elbo', which is read as"),
    "an unknown setting": (
        {"class_path": "my_metrics.Spread", "init_args": {"power": 2}}, "Spread' fails .TypeError.*power.*mend it"
    ),
    "a setting beside the path": ({"class_path": "my_metrics.Spread", "factor": 2}, "unknown key 'factor'"),
    "no number an image": ({"class_path": "my_metrics.wide"}, r"gives a tensor \(20, 1, 4, 4\): expected one number"),
    "an error": ({"class_path": "my_metrics.fails"}, "fails .KeyError: 'there is none', in line 28 of .*my_metrics.py"),
    "settings that are no table": (
        {"class_path": "my_metrics.Spread", "init_args": [1]}, r"energy.init_args is \[1\]: expected a table"
    ),
    "a direction in words": (
        {"class_path": "my_metrics.count", "higher_is_better": "yes"}, "higher_is_better 'yes': expected a text"
    ),
}  # fmt: skip


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("name", WRONG)
def test_a_metric_that_is_wrong_is_answered_with_a_sentence(name: str) -> None:
    settings, sentence = WRONG[name]
    with pytest.raises(UserError, match=sentence):
        measured(energy=settings)


@pytest.mark.usefixtures("mine")
def test_a_metric_has_a_name_of_its_own() -> None:
    with pytest.raises(
        UserError, match="called 'units': expected letters and _, and a name that none of the suite's has"
    ):
        measured(units={"class_path": "my_metrics.count"})
