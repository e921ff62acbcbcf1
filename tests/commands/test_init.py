"""`vaebench init` writes a project that runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vaebench.cli import main
from vaebench.records import read_records
from vaebench.running.benchmark import read_benchmark
from vaebench.sweep.check import check
from vaebench.sweep.spec.spec import read_sweep
from vaebench.training.experiment import experiment


@pytest.fixture
def project(newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert main(["init", "mine"]) == 0
    monkeypatch.chdir(newcomer / "mine")
    return newcomer / "mine"


@pytest.mark.usefixtures("project")
def test_its_benchmark_and_its_sweep_are_sound() -> None:
    for run in read_benchmark(Path("benchmark.yaml")).runs:
        experiment(run.args).build()
    check(read_sweep(Path("sweep.yaml")))


@pytest.mark.usefixtures("project")
def test_it_trains_and_its_data_keep_the_laws(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    readme = Path("README.md").read_text(encoding="utf-8")
    (fit,) = re.findall(r"^ {4}vaebench (fit .*) 5$", readme, re.M)
    assert main([*shlex.split(fit), "1"]) == 0
    assert "runs/Stripes-MyVAE-s0-" in capsys.readouterr().out
    from my_data import Stripes

    data = Stripes()
    assert data.sizes == {"train": 1280, "val": 160, "test": 160}
    assert len({image.numpy().tobytes() for split in data.raw().values() for image in split.images}) == 1600


@pytest.mark.usefixtures("project")
def test_nothing_that_is_there_is_written_over() -> None:
    Path("my_vae.py").write_text("mine")
    Path("README.md").unlink()
    assert main(["init"]) == 2
    assert Path("my_vae.py").read_text() == "mine"
    assert not Path("README.md").exists()


@pytest.mark.usefixtures("project")
@pytest.mark.slow
def test_every_command_of_its_readme_runs() -> None:
    for command in re.findall(r"^ {4}vaebench (.*)$", Path("README.md").read_text(encoding="utf-8"), re.M):
        assert main(shlex.split(command)) == 0, command
    assert len(read_records(Path("results"))) >= 8


def test_a_folder_that_is_a_file_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert main(["init", str(tmp_path / "mine")]) == 2
    assert f"'{tmp_path}/mine" in capsys.readouterr().err
