"""What `pip install` gives: the wheel has all that the commands need, in any folder, without a checkout."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from vaebench.cli import EXAMPLES, commands
from vaebench.configuration.shipped import shipped
from vaebench.evaluation import read_protocol
from vaebench.running.benchmark import read_benchmark
from vaebench.running.recording import record_id
from vaebench.training.experiment import experiment

ROOT = Path(__file__).parents[2]
INTERACTIVE = ("judge", "pull", "push", "wandb")  # a server until it is stopped; accounts


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    inside = set(ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", "vaebench"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.splitlines()) <= inside
    assert {f"vaebench/{name}.yaml" for name in shipped()} <= inside


def test_names_are_found_in_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """Unpacked, and called from an empty folder, as pip would leave it."""
    with ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = (
        "from pathlib import Path; from vaebench.running.benchmark import read_benchmark as r; b = r(Path('digits'));"
        "from vaebench.configuration.shipped import shipped; print(b.runs[0].args[0], len(shipped()))"
    )
    place = {"cwd": tmp_path / "empty", "env": {"PYTHONPATH": str(tmp_path / "site")}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **place)
    assert done.stdout.split() == [f"--config={tmp_path}/site/vaebench/configs/data/digits.yaml", str(len(shipped()))]


def examples() -> list[str]:
    """Every example of `--help`, of all commands, in an order in which each finds what it needs."""
    lines = [line.split("  ")[0] for line in EXAMPLES.replace("\n  ", "\n").splitlines()[1:]]
    first = ["bench", "fit", "evaluate", "sweep", "leaderboard"]
    modules = commands()
    for name in [*first, *(name for name in modules if name not in first)]:
        lines += [] if name in INTERACTIVE else modules[name].EXAMPLE.splitlines()
    return [line for line in dict.fromkeys(lines) if line.startswith("vaebench ")]


def test_examples_name_what_earlier_examples_make() -> None:
    """The ids in them: of the run that `fit` of the top help trains, and of the benchmark of digits."""
    text = EXAMPLES + "".join(module.EXAMPLE for module in commands().values())
    (fit,) = re.findall(r"vaebench fit (.* 50)$", EXAMPLES, re.M)
    job = experiment(shlex.split(fit))
    benchmark = read_benchmark(Path("digits"))
    protocol = read_protocol(**benchmark.protocol)
    made = {f"digits-beta_vae-s0-{job.identity(job.build()[1])[:8]}"}
    for run in (run for run in benchmark.runs if run.seed == 0):
        one = experiment(run.args)
        made.add(f"{run.variant}-s0-{record_id(one.identity(one.build()[1]), protocol)[:8]}")
    assert set(re.findall(r"[\w-]+-s0-\w{8}", text)) <= made


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_example_of_help_runs_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    for example in examples():
        words = shlex.split(example, comments=True)
        done = subprocess.run([python, "-m", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{example}: {done.stderr[-2000:]}"
