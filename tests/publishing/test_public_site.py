"""`vaebench site`: pages with relative links, which run nothing that a record holds; a folder that destroys nothing."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from fake_records import write_board, write_fake

from vaebench.cli import main
from vaebench.records import read_records
from vaebench.reproduction.cards import card_name

EVIL = "\"'><script>alert('x')</script><img src=x onerror=alert(1)>[a](javascript:alert(1)){{ 7 * 7 }}"


class Links(HTMLParser):
    """The addresses that a page names, the names of its elements, and the attributes that would run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.elements: list[str] = []
        self.handlers: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "srcset", "data")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}


def _site(tmp_path: Path, *more: str) -> Path:
    assert main(["site", f"{tmp_path}/results", f"--out={tmp_path}/public", *more]) == 0
    return tmp_path / "public"


def test_every_link_is_relative_and_leads_to_a_file_of_the_site(tmp_path: Path) -> None:
    write_board(tmp_path / "results", {"good": 2.0, "poor": 0.0})
    site = _site(tmp_path)
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 1 + 1 + 6
    seen = {site / "index.html"}
    for page in pages:
        read = Links(page.read_text("utf-8"))
        for address in read.addresses:
            parts = urlsplit(address)
            assert not parts.scheme, address
            assert not parts.netloc, address
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
            assert target.is_relative_to(site.resolve()), address
            assert target.is_file(), f"{page}: {address}"
            seen.add(target)
            if parts.fragment and target == page.resolve():
                assert parts.fragment in read.ids, address
        assert "http" not in "".join(read.addresses)
    assert {page.resolve() for page in pages} <= {path.resolve() for path in seen}, "every page is reached by links"


def test_a_board_and_its_cards_say_what_the_records_say(tmp_path: Path) -> None:
    records = write_board(tmp_path / "results", {"good": 2.0, "poor": 0.0})
    site = _site(tmp_path)
    for record in records:
        text = (site / "cards" / f"{card_name(record)}.html").read_text("utf-8")
        assert f"{record.value('elbo'):.6g}".replace("-", "−") in text
        assert "measured by the keepers" in text
        assert main(["import", f"{site}/cards/{card_name(record)}", f"--results={tmp_path}/theirs"]) == 0
    assert sorted(r.digest for r in read_records(tmp_path / "theirs")) == sorted(r.digest for r in records)
    (board,) = (site / "boards").glob("*.html")
    assert "leads" in (site / "index.html").read_text("utf-8")
    assert 'src="../plotly.js"' in board.read_text("utf-8")
    assert board.stat().st_size < 10**6, "what draws stands in one file for all boards"


def test_a_claim_is_published_as_a_claim(tmp_path: Path) -> None:
    write_board(tmp_path / "results", {"good": 2.0})
    record = write_fake(tmp_path / "theirs" / "run", np.random.default_rng(1), mean=9.0, variant="boast")
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    assert main(["import", f"{tmp_path}/card", f"--results={tmp_path}/results"]) == 0
    site = _site(tmp_path)
    assert "claimed: not measured again here" in (site / "cards" / f"{card_name(record)}.html").read_text("utf-8")
    assert "1 is a claim" in " ".join((site / "index.html").read_text("utf-8").split())


def test_names_of_a_strangers_record_are_text_on_every_page_and_in_its_card(tmp_path: Path) -> None:
    """Variants, benchmarks, units and reasons that are markup, Markdown links or templates."""
    record = write_fake(tmp_path / "results" / "run", np.random.default_rng(1), variant=EVIL, selection=EVIL)
    write_fake(tmp_path / "results" / "plain", np.random.default_rng(2), variant="plain", warnings=[EVIL])
    site = _site(tmp_path)
    plain = tmp_path / "clean"
    write_board(plain / "results", {"vae": 0.0}, seeds=2)
    usual = {tag for page in _site(plain).rglob("*.html") for tag in Links(page.read_text("utf-8")).elements}
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        read = Links(text)
        assert set(read.elements) <= usual, page
        assert not read.handlers
        assert not [address for address in read.addresses if ":" in address]
        assert not re.search(r"\b49\b\)?</h1>", text), "a template was rendered"
        assert "Content-Security-Policy" in text
    card = (site / "cards" / card_name(record) / "card.md").read_text("utf-8")
    assert "<script" not in card.replace("\\<script", "")
    assert "[a](" not in card.replace("\\[a\\](", "")
    assert re.fullmatch(r"[A-Za-z0-9_=+-]+", card_name(record))


def test_a_folder_that_is_not_its_own_site_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_board(tmp_path / "results", {"good": 2.0}, seeds=1)

    def refused(out: Path) -> str:
        before = sorted(path for path in tmp_path.rglob("*"))
        assert main(["site", f"{tmp_path}/results", f"--out={out}"]) == 2
        assert sorted(path for path in tmp_path.rglob("*")) == before
        return capsys.readouterr().err

    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    assert "holds 'chapter.tex'" in refused(thesis)
    (thesis / "site.json").write_text('{"site": 1, "files": []}')
    assert "holds 'chapter.tex'" in refused(thesis)
    (tmp_path / "file").write_text("x")
    assert "is no folder" in refused(tmp_path / "file")
    assert "is no folder" in refused(tmp_path / "results" / "good-s0" / "record.json")
    (tmp_path / "link").symlink_to(thesis)
    assert "is no folder" in refused(tmp_path / "link")
    assert "holds" in refused(tmp_path / "results")
    site = _site(tmp_path)
    (site / "CNAME").write_text("boards.example")
    capsys.readouterr()
    assert "holds 'CNAME'" in refused(site)


def test_a_site_is_replaced_whole_by_the_next_and_equal_records_give_equal_sites(tmp_path: Path) -> None:
    write_board(tmp_path / "results", {"good": 2.0, "poor": 0.0}, seeds=1)
    site = _site(tmp_path)
    first = {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    _site(tmp_path)
    assert {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()} == first
    shutil.rmtree(tmp_path / "results" / "poor-s0")
    _site(tmp_path)
    left = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    assert left < set(first), "nothing is left of what is gone"
    assert not list(tmp_path.glob(".public*"))
    (tmp_path / ".public.new").mkdir()  # of a killed writer
    _site(tmp_path)
    assert not list(tmp_path.glob(".public*"))


def test_a_site_that_cannot_be_written_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_board(tmp_path / "results", {"good": 2.0}, seeds=1)
    site = _site(tmp_path)
    first = (site / "index.html").read_bytes()
    own = Path.write_text

    def full(path: Path, *args: object, **kwargs: object) -> int:
        if path.name == "index.html":
            raise OSError(28, "No space left on device", str(path))
        return own(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["site", f"{tmp_path}/results", f"--out={site}"]) == 2
    assert (site / "index.html").read_bytes() == first
    assert not list(tmp_path.glob(".public*"))
    assert capsys.readouterr().err.count("\n") == 1


def test_a_damaged_record_is_named_and_has_no_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_board(tmp_path / "results", {"good": 2.0}, seeds=2)
    (tmp_path / "results" / "good-s1" / "per_image.npz").write_bytes(b"")
    site = _site(tmp_path)
    assert "left out: good-s1: per_image.npz is not what was written" in capsys.readouterr().err
    assert len(list((site / "cards").glob("*.html"))) == 1
    assert "1 damaged record left out" in (site / "index.html").read_text("utf-8")
    assert json.loads((site / "site.json").read_bytes())["site"] == 1


def test_the_pages_of_a_site_are_drawn_from_a_folder(tmp_path: Path, browser: Any) -> None:
    """From files: the plots are drawn by the file that all boards share, and no page breaks its policy."""
    write_board(tmp_path / "results", {"good": 2.0, "poor": 0.0})
    site = _site(tmp_path)
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    for name in ("index.html", *sorted(path.relative_to(site).as_posix() for path in site.glob("cards/*.html"))[:1]):
        page.set_viewport_size({"width": 390, "height": 900})
        page.goto((site / name).as_uri())
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every((image) => image.naturalWidth)")
        assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") == 0, f"{name} is wider than a phone"
    page.set_viewport_size({"width": 1000, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.click(".card h3 a")
    page.click("nav li.to-board a")
    page.locator(".figures .plot").first.scroll_into_view_if_needed()
    page.wait_for_selector(".js-plotly-plot svg", timeout=60_000)
    page.click(".result-cards summary")
    page.click(".result-cards a >> nth=0")
    page.wait_for_selector("main h1")
    assert page.evaluate("[...document.images].map((image) => (image.loading = 'eager', 1)).length") == 2
    page.wait_for_function("[...document.images].every((image) => image.naturalWidth)")
    assert page.title().startswith("good")
    page.click("nav a")
    assert page.title() == "vaebench boards"
    assert faults == []
