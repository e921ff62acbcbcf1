"""Faults of the built site of docs/: links that lead nowhere, mathematics left as source, pages too wide."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from browser import chromium
from playwright.sync_api import Page

WIDTHS = (390, 900, 1440)  # a telephone, half a screen, a desk
RAW = r"\$\$|\\[|{}]|\\\(|\\\[|\\(frac|sum|log|mathrm|quad|qquad|beta|text|big|Big)\b|\.\. math::"
LOOK = """(raw) => {
  const faults = [];
  const source = new RegExp(raw);
  const walker = document.createTreeWalker(document.querySelector("article") ?? document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.parentElement.closest("code, pre, script, style, annotation") && source.test(node.data))
      faults.push(`mathematics as source: ${node.data.trim().slice(0, 60)}`);
  }
  for (const math of document.querySelectorAll("math"))
    if (math.checkVisibility() && !math.getBoundingClientRect().width)
      faults.push(`empty equation: ${math.textContent}`);
  for (const image of document.images)
    if (!image.naturalWidth && image.checkVisibility()) faults.push(`no picture: ${image.getAttribute("src")}`);
  const wide = document.scrollingElement.scrollWidth - innerWidth;
  if (wide > 0) faults.push(`${wide} pixels wider than the window`);
  return faults;
}"""


def pages(site: Path) -> list[Path]:
    """Every page but those of boards, which have tests of their own."""
    return sorted(path for path in site.rglob("*.html") if path.relative_to(site).parts[0] not in ("boards", "_static"))


class _Links(HTMLParser):
    """What a page links, embeds and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.embedded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.targets.append(given["href"])
        elif tag in ("img", "script", "iframe") and "src" in given:
            self.embedded.append(given["src"])
        elif tag == "link" and "href" in given and given.get("rel") == "stylesheet":
            self.embedded.append(given["href"])


def broken_links(site: Path) -> Iterator[str]:
    """Links to files and anchors that do not exist, and whatever a page would fetch from elsewhere."""
    read = {path: _Links(path.read_text(encoding="utf-8")) for path in pages(site)}
    for path, links in read.items():
        name = path.relative_to(site)
        for target in (*links.targets, *links.embedded):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in links.embedded and parts.scheme != "data":
                    yield f"{name}: fetches {target}"
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not place.is_file():
                yield f"{name}: {target} leads nowhere"
            elif place in read and parts.fragment and unquote(parts.fragment) not in read[place].anchors:
                yield f"{name}: {target} has no such place"


def drawn_wrongly(site: Path) -> Iterator[str]:
    """What Chromium shows wrongly, without a network, at three widths."""
    with chromium() as browser:
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900})
            errors: list[str] = []
            page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            page.on("request", lambda request, errors=errors: _local(request.url, errors))
            for path in pages(site):
                page.goto(path.as_uri())
                found = page.evaluate(LOOK, RAW)
                yield from (f"{path.relative_to(site)} at {width}: {fault}" for fault in (*found, *errors))
                errors.clear()
            if width == WIDTHS[-1]:
                yield from _search(page, site)
            page.close()


def _local(url: str, errors: list[str]) -> None:
    if urlsplit(url).scheme not in ("file", "data", "blob"):
        errors.append(f"asks for {url}")


def _search(page: Page, site: Path) -> Iterator[str]:
    """The search finds a family by its name, from the folder."""
    page.goto(f"{(site / 'search.html').as_uri()}?q=aggressive")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    if not any("aggressive_vae" in link.inner_text() for link in page.query_selector_all("#search-results li a")):
        yield "search.html: a search for aggressive does not find aggressive_vae"
