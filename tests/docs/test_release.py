"""What a release is made of: `.ci/release.py`'s rules, the Dockerfile's and the forms of issues."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from vaebench.cli import EXAMPLES
from vaebench.running.benchmark import read_benchmark

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / ".ci"))
    spec.loader.exec_module(module)
    sys.path.remove(str(ROOT / ".ci"))
    return module


def test_a_tag_must_agree_with_version_changelog_and_citation(release: ModuleType) -> None:
    cited, changes = "title: x\nversion: 1.2.0\n", "# Changelog\n\n## [1.2.0] - 2027-01-01\n"
    assert release.mismatch("1.2.0", ["v1.2.0"], changes, cited) == ""
    assert release.mismatch("1.2.0", [], "", cited) == "", "an untagged commit is a trial"
    assert "CITATION" in release.mismatch("1.2.1", [], changes, cited)
    assert "v1.2.1" in release.mismatch("1.2.0", ["v1.2.1"], changes, cited)
    assert "CHANGELOG" in release.mismatch("1.2.0", ["v1.2.0"], "## [Unreleased]", cited)


def test_examples_run_at_a_small_budget(release: ModuleType, tmp_path: Path) -> None:
    """`make release` looked for help's benchmark by its path, where help names it."""
    (bench,) = (line.split("  ")[1].split() for line in EXAMPLES.splitlines() if "vaebench bench" in line)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    *_, file, option, place = release.small(bench, tmp_path)
    assert (option, place) == ("--results", "own")
    read = read_benchmark(Path(file))
    assert {run.seed for run in read.runs} == {0}
    assert all("max_epochs: 1" in line for line in Path(file).read_text().splitlines() if "max_epochs" in line)
    assert release.small(["vaebench", "sweep", "x.yaml"], tmp_path)[-1] == "--dry-run"
    assert release.small(["vaebench", "fit", "--data", "digits"], tmp_path)[-2:] == ["--trainer.max_epochs", "1"]
    assert release.small(["vaebench", "parts"], tmp_path) == ["vaebench", "parts"]
    long = {line.split()[1] for line in EXAMPLES.splitlines() if "vaebench" in line} - {"leaderboard"}
    assert long == {"bench", "fit", "evaluate", "sweep"}, "an example that trains needs a rule in `small`"


def test_the_image_takes_its_base_by_argument_and_runs_the_demo() -> None:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("ARG BASE=")
    assert lines[1] == "FROM ${BASE}"
    assert lines[-1] == 'CMD ["make", "demo"]'
    assert not any("://" in line for line in lines)


def test_what_the_image_runs_is_a_shells_and_the_makefiles() -> None:
    """As far as it can be told without Docker: its lines parse, its targets exist, and what they need is sent to it."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in lines} <= {"ARG", "FROM", "RUN", "USER", "WORKDIR", "COPY", "CMD"}
    runs = [rest for word, rest in lines if word == "RUN"]
    for command in runs:
        subprocess.run(["sh", "-n", "-c", command], check=True)
    targets = {*re.findall(r"make (\S+)", runs[-1]), "demo"}
    assert targets == {".venv/ready", "demo"}
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    assert [rest.split()[-2:] for word, rest in lines if word == "COPY"] == [[".", "."]]
    left_out = (ROOT / ".dockerignore").read_text().split()
    needed = ("Makefile", "pyproject.toml", "setup.py", "MANIFEST.in", "constraints.txt", "README.md", "LICENSE",
              "vaebench/cli.py", "configs/benchmark/digits.yaml", "sweeps/digits.yaml")  # fmt: skip
    for name in needed:
        assert (ROOT / name).is_file()
        assert not any(fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in left_out), name


def test_the_forms_of_issues_are_forms() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 3
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form), path.name
        assert all(part["type"] in ("input", "textarea") and part["attributes"]["label"] for part in form["body"])
        assert len({part["id"] for part in form["body"]}) == len(form["body"])
