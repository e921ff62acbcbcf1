"""What may be installed: no version with a known hole, pins within the ranges, and a lock that agrees with the pins."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import vaebench

ROOT = Path(__file__).parents[2]
HOLES = {  # versions, the last or only ones with the hole; docs/security.md has the reasons
    "lightning": ["2.6.0", "2.6.2", "2.6.3"],
    "pytorch-lightning": ["2.6.0", "2.6.2", "2.6.3"],
    "torch": ["2.6.0", "2.9.1", "2.9.1+cpu"],
    "starlette": ["0.52.1", "1.0.0"],
    "h11": ["0.14.0"],
    "ray": ["2.40.0", "2.53.0"],
    "pillow": ["11.0.0", "12.1.1"],
    "jinja2": ["3.1.0", "3.1.5"],
}


def _allowed() -> list[tuple[str, Requirement]]:
    """Everything that pyproject.toml asks for, with the extra that does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    return [(extra, Requirement(text)) for extra, texts in extras.items() for text in texts]


def _pins() -> dict[str, str]:
    pairs = (line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split())
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("name", HOLES)
def test_no_range_allows_a_version_with_a_known_hole(name: str) -> None:
    """lightning 2.6.2, which stole credentials, torch before CVE-2026-24747 was mended, starlette 1.0.0 and others."""
    ranges = [(extra, wanted) for extra, wanted in _allowed() if canonicalize_name(wanted.name) == name]
    assert ranges
    for extra, wanted in ranges:
        allowed = [version for version in HOLES[name] if wanted.specifier.contains(Version(version), prereleases=True)]
        assert not allowed, f"{extra or 'vaebench'}: {wanted}"
    assert all(f"`{name}`" in (ROOT / "docs/security.md").read_text("utf-8") for name in HOLES)


def test_every_range_of_every_extra_allows_what_is_pinned() -> None:
    pins = _pins()
    for extra, wanted in _allowed():
        pin = pins.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted} of {extra or 'vaebench'} has no pin"
        assert wanted.specifier.contains(pin), f"{wanted} of {extra or 'vaebench'} against {pin}"


def test_the_lock_agrees_with_the_pins() -> None:
    text = (ROOT / "requirements.lock").read_text("utf-8")
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    locked = {}
    for block in re.split(r"\n(?! )", body.strip()):
        head, *hashes = (part.strip() for part in block.split("\\\n"))
        name, _, version = head.partition("==")
        locked[canonicalize_name(name)] = version
        assert hashes, f"{name} has no hash"
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for one in hashes), name
    pins = _pins()
    assert pins.pop("torch"), "its build differs from device to device"
    assert locked == pins, "run `make lock`"
    assert not re.search(r"://|file:|index|/[a-z]+/", body), "neither places nor addresses"


@pytest.fixture
def tools() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools", ROOT / ".ci" / "tools.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _report(**entries: list[str] | None) -> str:
    """A report of pip-audit: the holes of each package; None for one that it did not find."""
    holes = {name: [{"id": hole, "fix_versions": ["9"]} for hole in found or ()] for name, found in entries.items()}
    return json.dumps({
        "dependencies": [
            {"name": name, "skip_reason": "not found"} if found is None
            else {"name": name, "version": "1", "vulns": holes[name]}
            for name, found in entries.items()
        ],
        "fixes": [],
    })  # fmt: skip


def test_an_audit_that_found_no_package_is_not_called_clean(tools: ModuleType) -> None:
    """pip-audit exits 0 with "No known vulnerabilities found" where its data has none of the packages."""
    assert tools.verdict(_report(a=[], b=[]), 2) == (0, "no known hole in 2 packages")
    code, text = tools.verdict(_report(a=[], b=["CVE-1"], c=None), 3)
    assert (code, "b 1: CVE-1 (9)" in text) == (1, True)
    for report in (_report(a=[], b=None), _report(a=None, b=None), _report(a=[]), "", "Traceback", "[]", "{}"):
        code, text = tools.verdict(report, 2)
        assert code is None, report
        assert re.fullmatch(r"not audited: .*", text)


def test_an_audit_without_a_network_says_so_in_one_sentence(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(_: str) -> Path:
        raise OSError("no network")

    monkeypatch.setattr(tools, "tool", offline)
    for ci, code in (("", 0), ("true", 1)):
        monkeypatch.setenv("CI", ci)
        assert tools.audit() == code
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("not audited: ")


def test_the_conda_recipe_asks_for_what_the_project_asks_for() -> None:
    """torch is pytorch there, and the packages of jsonargparse's extra have no extra to come by."""
    recipe = yaml.safe_load((ROOT / ".ci" / "conda" / "recipe.yaml").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    python = f"python {project['project']['requires-python']}"
    wanted = {requirement.name: requirement for extra, requirement in _allowed() if not extra}
    assert {extra for requirement in wanted.values() for extra in requirement.extras} == {"signatures"}
    asked = {f"{'pytorch' if name == 'torch' else name} {one.specifier}".strip() for name, one in wanted.items()}
    ordered = {line.partition(" ")[0]: line for line in recipe["requirements"]["run"]}
    named = {line.partition(" ")[0]: line for line in (*asked, python, "docstring_parser", "typeshed_client")}
    assert ordered.keys() == named.keys()
    for name, line in named.items():
        assert sorted(ordered[name].partition(" ")[2].split(",")) == sorted(line.partition(" ")[2].split(",")), name
    assert set(recipe["requirements"]["host"]) == {
        python,
        "pip",
        *(line.replace(">", " >") for line in project["build-system"]["requires"]),
    }
    assert recipe["context"]["version"] == vaebench.__version__
    assert recipe["build"]["python"]["entry_points"] == [
        f"{name} = {place}" for name, place in project["project"]["scripts"].items()
    ]
