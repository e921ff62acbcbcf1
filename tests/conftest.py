"""Settings shared by all tests."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # child processes too: models of a few units gain nothing from threads
torch.set_num_threads(1)
gc.disable()  # until all is imported, see below
LONG = ("training", "sweep", "docs")  # rooms whose files train and start processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, and the many short ones last: workers that take whole files then end together."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_collection_finish() -> None:
    """Sets what was imported aside: to look through these million objects again and again took a tenth of all tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, in a process that was told of no code of a user's own, and forgets what it is told."""
    from vaebench.configuration import own, registered

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registered, "REGISTERED", set())
    monkeypatch.setattr(registered, "MOVED", [])
    monkeypatch.setattr(own, "_folder", own._Folder())
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if not isinstance(finder, own._Folder)])
    monkeypatch.setenv(own.INCLUDED, "")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if Path(str(vars(sys.modules[name]).get("__file__"))).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; one a module, since Playwright's event loop would be in the way of other tests'."""
    from browser import CHROMIUM, MISSING, chromium

    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    with chromium() as found:
        yield found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Names the tests that did not run, and why; `-q` would leave an s in a row of dots."""
    for report in terminalreporter.stats.get("skipped", []):
        *_, why = report.longrepr
        terminalreporter.write_line(f"did not run: {report.nodeid}: {why.removeprefix('Skipped: ')}", yellow=True)


def pytest_runtest_setup() -> None:
    """Tables in tests are as wide as without `COLUMNS`, which notebooks and shells set."""
    os.environ.pop("COLUMNS", None)
