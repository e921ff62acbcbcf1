"""What `pip install` gives: the wheel has all that the commands need, in any folder, without a checkout."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
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
SOURCES = ("vaebench", "configs", "sweeps", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
INTERACTIVE = ("judge", "wandb")  # a server until it is stopped; an account


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout without a network."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (source := ROOT / name).is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(copy)], cwd=copy, check=True, capture_output=True)
    (built,) = copy.glob("*.whl")
    return built


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
    return list(dict.fromkeys(lines))


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
def test_every_example_of_help_runs_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Installed into a new environment, whose other packages are those of this one."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    others = [p for p in sys.path if p.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others))
    (tmp_path / "empty").mkdir()
    for example in examples():
        words = shlex.split(example, comments=True)
        assert words[0] == "vaebench"
        done = subprocess.run([python, "-m", *words], cwd=tmp_path / "empty", capture_output=True, text=True)
        assert done.returncode == 0, f"{example}: {done.stderr[-2000:]}"
