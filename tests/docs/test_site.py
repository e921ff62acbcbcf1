"""The site of docs/: its navigation names every page, and, at night, what is built has no faults."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from data_layouts import write_tiny
from site_checks import broken_links, drawn_wrongly

from vaebench.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_navigation_names_every_page_once() -> None:
    sections = yaml.safe_load((DOCS / "site" / "navigation.yaml").read_text(encoding="utf-8"))
    named = [name for names in sections.values() for name in names]
    assert sorted(named) == sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))


def test_a_link_that_leads_nowhere_and_a_script_from_elsewhere_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#here"></a><a href="b.html#gone"></a><a href="c.html"></a>')
    (tmp_path / "b.html").write_text(
        '<p id="here"><script src="https://example.org/x.js"></script><a href="#"></a></p>'
    )
    assert [fault.split(": ", 1)[1] for fault in broken_links(tmp_path)] == [
        "b.html#gone has no such place", "c.html leads nowhere", "fetches https://example.org/x.js",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_is_shown_wrongly_is_noticed(tmp_path: Path) -> None:
    body = r"<p>$$x$$</p><code>\frac</code><img src='gone.png' alt=''><div style='width: 1000px'>wide</div>"
    (tmp_path / "a.html").write_text(f"<article>{body}</article>")
    (tmp_path / "search.html").write_text("<ul id='search-results'><li><a href='a.html'>another</a></li></ul>")
    faults = list(drawn_wrongly(tmp_path))
    for said in ("a.html at 390: mathematics as source: $$x$$", "a.html at 1440: no picture: gone.png"):
        assert said in faults
    assert any("a.html at 390" in fault and "wider" in fault for fault in faults)
    assert not any("frac" in fault for fault in faults)
    assert "search.html: a search for aggressive does not find aggressive_vae" in faults


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_site_builds_without_a_warning_and_is_shown_without_a_fault(tmp_path: Path) -> None:
    """`make docs` into another folder; needs the extra `docs`, which `make nightly` installs."""
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, DOCS / "site" / "build.py", "--out", site], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    assert not list(broken_links(site))
    assert not list(drawn_wrongly(site))


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", DOCS / "site" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEASURES = {"rae": "continuous", "rae_gp": "continuous", "sigma_vae": "continuous"}  # of those that refuse bits
LATENTS = {"vq_conv_vae": 4}  # as many as its grid has places for digits


@pytest.mark.slow
@pytest.mark.parametrize("stem", sorted(path.stem for path in (ROOT / "configs" / "family").glob("*.yaml")))
def test_the_command_of_a_configuration_on_its_familys_page_trains(
    stem: str, pages: ModuleType, newcomer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For two steps, on digits; those for CIFAR-10 on small files in its layout."""
    data = "cifar10" if stem.endswith("cifar10") else "digits"
    write_tiny(newcomer / "data", monkeypatch, data)
    (newcomer / "configs").symlink_to(ROOT / "configs")
    (command,) = re.findall(r"^ {4}vaebench (.*)$", pages._configuration(stem), re.MULTILINE)
    small = ["--trainer.max_steps=2"]
    if stem in MEASURES:
        small.append(f"--data.measure={MEASURES[stem]}")
    if stem in LATENTS:
        small.append(f"--model.latent={LATENTS[stem]}")
    assert main([*shlex.split(command.replace("DATA", data)), *small]) == 0
