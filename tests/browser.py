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


# Every piece of text that is seen, with its size, and its contrast to what is behind it as WCAG 2 defines it.
TEXTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  function behind(node) {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
  }
  const seen = (node) =>
    node.checkVisibility({ visibilityProperty: true }) && !node.closest(".hidden, option, .skip:not(:focus)");
  const texts = [...document.body.querySelectorAll("*")].filter((node) =>
    !node.matches("script, template") && seen(node)
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return texts.map((node) => {
    const style = getComputedStyle(node), front = numbers(node.closest("svg") ? style.fill : style.color);
    const [low, high] = [luminance(front), luminance(behind(node))].sort((a, b) => a - b);
    const what = `${node.tagName} ${node.className?.baseVal ?? node.className} ${node.textContent.trim().slice(0, 40)}`;
    const small = !!node.closest("svg, sup, button"), size = parseFloat(style.fontSize);
    return { what, contrast: (high + 0.05) / (low + 0.05), size, small };
  });
}"""
