"""The page is one sound, self-contained HTML file that shows every run and executes nothing that a record holds."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_records import write_board, write_fake

from vaebench.leaderboard import boards
from vaebench.leaderboard.page import page
from vaebench.records import Records, read_records

EVIL = "\"'><script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>&amp;</script>{{ 7 * 7 }}"
VOID = {"meta", "input", "img", "br", "link"}


class Page(HTMLParser):
    """Elements with their attributes, text outside of scripts, and whether tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self.open = "", [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def render(path: Path) -> tuple[Page, str, Records]:
    records = read_records(path)
    html = page(boards(records), records)
    return Page(html), html, records


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two boards, a hostile record, one without curves and pictures of note, and a damaged one."""
    path, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    write_board(path / "plain", {"vae": 0.0, "iwae": 1.0, "beta_vae": -2.0})
    write_board(path / "surrogates", {"vae": 0.0}, seeds=1, surrogate=True, curves={}, checkpoint=None, benchmark=None)
    write_fake(
        path / "evil", rng, variant=EVIL, family=EVIL, selection=EVIL, config={EVIL: EVIL}, collapse={"verdict": EVIL},
        environment={EVIL: EVIL}, benchmark=EVIL, warnings=[f"beware of {EVIL}"],
    )  # fmt: skip
    harmed = write_fake(path / "harmed<b>", rng).path / "samples.png"
    harmed.unlink()
    return path


@pytest.fixture(scope="module")
def rendered(results) -> tuple[Page, str, Records]:
    return render(results)


def test_nothing_is_fetched(rendered):
    """No address leaves the file, and a policy forbids the browser what slips through."""
    parsed, html, _ = rendered
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "formaction", "ping", "background"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:image/png;base64,")), (tag, name, address)
    assert not parsed.every("link")
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"url\(|@import|https?:", style)
    assert "http" not in parsed.scripts[-1]
    (policy,) = [m["content"] for m in parsed.every("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_what_a_record_holds_is_text_and_never_markup(rendered):
    parsed, html, _ = rendered
    assert not [attributes for _, attributes in parsed.elements if any(name.startswith("on") for name in attributes)]
    assert len(parsed.scripts) == 3  # data, Plotly, ours
    assert EVIL in parsed.text
    assert f"beware of {EVIL}" in parsed.text
    assert json.loads(parsed.scripts[0])[0]["variants"]
    assert EVIL in [variant["name"] for board in json.loads(parsed.scripts[0]) for variant in board["variants"]]
    assert "alert('x')" not in html.replace("alert(&#39;x&#39;)", "").replace("alert(\\u0027x\\u0027)", "")


def test_every_run_is_there_with_its_pictures_hashes_and_figures(rendered):
    parsed, _, records = rendered
    runs = [a for a in parsed.every("details") if "run" in (a.get("class") or "").split()]
    assert len(runs) == len(records) == 11
    images = {a["src"] for a in parsed.every("img")}
    for record in records:
        assert record.id in parsed.text
        assert record.digest in parsed.text
        for picture in record.pictures().values():
            address = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
            assert address in images
    drawn = [run for board in json.loads(parsed.scripts[0]) for variant in board["variants"] for run in variant["runs"]]
    assert {run["id"] for run in drawn} == {run["id"] for run in runs}
    assert sorted(run["rate"] for run in drawn) == sorted(record.value("rate") for record in records)
    assert all(a.get("alt") and a.get("width") == "320" and a.get("height") == "160" for a in parsed.every("img"))


def test_ids_are_unique_and_links_lead_somewhere(rendered):
    parsed, _, _ = rendered
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in ids)
    for attribute in ("href", "aria-labelledby", "for", "data-run"):
        targets = [a[attribute].removeprefix("#") for _, a in parsed.elements if attribute in a]
        assert targets
        assert set(targets) <= set(ids)


def test_tables_can_be_sorted_by_keyboard_and_read_aloud(rendered):
    parsed, html, records = rendered
    tables = re.findall(r'<table class="ranking">(.*?)</table>', html, re.DOTALL)
    assert len(tables) == len(boards(records)) == 2
    for text in tables:
        found = Page(text)
        headers = [a for a in found.every("th") if a.get("scope") == "col"]
        assert all(a.get("aria-sort") in ("none", "ascending", "descending") for a in headers)
        assert len(found.every("button")) == len(headers)
        assert all(a.get("type") == "button" for a in found.every("button"))
        rows = [a for a in found.every("tr") if "data-text" in a]
        assert len([a for a in found.every("th") if a.get("scope") == "row"]) == len(rows)
        assert len(found.every("td")) == len(rows) * (len(headers) - 1)
    assert [a.get("lang") for a in parsed.every("html")] == ["en-GB"]
    assert [a["type"] for a in parsed.every("input")] == ["search"]
    assert len(parsed.every("output")) == 1


def test_sorting_values_are_the_numbers_behind_the_text(rendered):
    _, html, _ = rendered
    cells = re.findall(r'<td class="figure log_likelihood" data-sort="([^"]+)">([^<]+)', html)
    assert len(cells) == 5
    for value, text in cells:
        assert f"{float(value):.2f}".replace("-", "−") == text


def test_damage_is_shown(rendered):
    parsed, _, _ = rendered
    assert [a for a in parsed.every("div") if a.get("class") == "damage" and a.get("role") == "alert"]
    assert "1 damaged record left out" in parsed.text
    assert "harmed<b>" in parsed.text
    assert "samples.png cannot be read" in parsed.text


def test_metrics_are_defined_and_absence_is_explained(rendered):
    parsed, _, _ = rendered
    assert "Structural similarity." in parsed.text
    assert "unavailable: images are smaller than the window" in parsed.text
    assert "is a tie" in parsed.text


def test_a_page_names_no_place_on_the_machine_and_is_the_same_every_time(results, rendered):
    _, html, records = rendered
    assert str(results) not in html
    assert page(boards(records), records) == html


def test_a_page_of_nothing_but_damage_still_stands(tmp_path):
    harmed = write_fake(tmp_path / "run", np.random.default_rng(0)).path / "record.json"
    harmed.write_text("{}")
    parsed, _, records = render(tmp_path)
    assert (len(records), len(records.damaged)) == (0, 1)
    assert "1 damaged record left out" in parsed.text
