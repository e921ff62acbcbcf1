"""Configurations, benchmarks and sweeps of the suite are found by name from anywhere; one's own files go first."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import vaebench as vb
from vaebench.cli import main
from vaebench.configuration.parts import find_part
from vaebench.configuration.shipped import find_file, shipped, shipped_names
from vaebench.errors import UserError
from vaebench.running.benchmark import read_benchmark
from vaebench.sweep.spec.spec import read_sweep
from vaebench.training.experiment import experiment

ROOT = Path(__file__).parents[2]
COMBINATIONS = [name for name in shipped_names("family") if not find_part("family", name)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_file_of_a_checkout_has_a_name() -> None:
    files = {path for folder in ("configs", "sweeps") for path in (ROOT / folder).rglob("*.yaml")}
    assert set(shipped().values()) == files
    assert len(COMBINATIONS) > 20


@pytest.mark.parametrize("name", ["family/vamp_vae", "configs/family/vamp_vae.yaml", "family/vamp_vae.yaml"])
def test_a_configuration_is_found_by_its_name(name: str) -> None:
    job = experiment(["--data=digits", "--config", name, "--model.latent", "3"])
    assert job.plain["model"]["init_args"]["prior"]["class_path"] == "vaebench.priors.vamp.VampPrior"
    assert job.plain["model"]["init_args"]["latent"] == 3


@pytest.mark.parametrize("form", [["--model", "vamp_vae"], ["--model=vamp_vae"]])
def test_a_combination_of_parts_is_named_where_a_family_is(form: list[str]) -> None:
    by_name = experiment(["--data=digits", *form, "--model.latent=3"])
    assert by_name.plain == experiment(["--data=digits", "--config=family/vamp_vae", "--model.latent=3"]).plain


def test_python_builds_a_combination_by_its_name() -> None:
    model = vb.build("vamp_vae", "digits", latent=3)
    assert type(model.prior).__name__ == "VampPrior"
    assert model.hparams["latent"] == 3


def test_a_file_of_ones_own_goes_first(elsewhere: Path) -> None:
    (elsewhere / "family").mkdir()
    (elsewhere / "family" / "vamp_vae").write_text("model: {class_path: IWAE}")
    job = experiment(["--data=digits", "--config=family/vamp_vae"])
    assert job.plain["model"]["class_path"].endswith("IWAE")
    (elsewhere / "digits").write_text("runs: {mine: {configs: [data/digits, family/iwae]}}")
    assert [run.variant for run in read_benchmark(Path("digits")).runs] == ["mine"]


def test_benchmarks_and_sweeps_are_found_by_their_names() -> None:
    assert read_benchmark(Path("digits")).name == "digits"
    assert read_benchmark(Path("repeat/rezende")).name == "repeat_rezende"
    assert read_benchmark(Path("configs/benchmark/digits.yaml")).name == "digits"
    assert read_sweep(Path("beta")).name == "beta"


def test_a_file_of_ones_own_names_those_of_the_suite(elsewhere: Path) -> None:
    (elsewhere / "b.yaml").write_text("configs: [data/digits]\nruns: {a: {configs: [family/vae]}}")
    assert (
        read_benchmark(Path("b.yaml")).runs[0].args[0] == f"--config={find_file('data/digits', 'configuration file')}"
    )
    (elsewhere / "s.yaml").write_text(
        "configs: [data/digits, family/vae]\nspace: {model.latent: {int: [1, 4]}}\nstop: {trials: 1}"
    )
    assert read_sweep(Path("s.yaml")).args[1].endswith("family/vae.yaml")


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["bench", "digts"], "unknown benchmark file 'digts'; did you mean digits"),
        (["sweep", "bta"], "unknown sweep file 'bta'; did you mean beta"),
        (["fit", "--config", "family/iwaee"], "did you mean family/iwae"),
        (["fit", "--data=digits", "--model", "vamp_vea"], "unknown family 'vamp_vea'; did you mean vamp_vae"),
        (["configs", "family/vamp_vea"], "unknown configuration file 'family/vamp_vea'; did you mean family/vamp_vae"),
    ],
)
def test_a_name_that_is_none_has_near_ones(argv: list[str], near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert near in capsys.readouterr().err


def test_configs_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("family/vamp_vae", "benchmark/digits", "sweeps/beta", "repeat/davidson"))
    assert main(["configs", "vamp_vae"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["class_path"] == "vaebench.families.vae.VAE"


def test_a_missing_file_of_a_kind_that_has_no_names_is_refused() -> None:
    with pytest.raises(UserError, match="unknown protocol 'nowhere'"):
        find_file("nowhere", "protocol")
