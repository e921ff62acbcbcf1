"""The site of docs/: its navigation names every page, and, at night, what is built has no faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from site_checks import broken_links, drawn_wrongly

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_navigation_names_every_page_once() -> None:
    sections = yaml.safe_load((DOCS / "site" / "navigation.yaml").read_text(encoding="utf-8"))
    named = [name for names in sections.values() for name in names]
    assert sorted(named) == sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))


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
