"""Debian's Chromium without a window, driven by Playwright, which brings no browser of its own here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium")
MISSING = "Debian's chromium is not installed; `make test` installs it where it may (root, or sudo without a password)"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, in a profile of its own."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()
