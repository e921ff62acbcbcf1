"""Settings shared by all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # child processes too: models of a few units gain nothing from threads
torch.set_num_threads(1)
gc.disable()  # until all is imported, see below


def pytest_collection_finish() -> None:
    """Sets what was imported aside: to look through these million objects again and again took a tenth of all tests."""
    gc.freeze()
    gc.enable()


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
