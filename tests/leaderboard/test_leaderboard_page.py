"""The page is one sound, self-contained HTML file that shows every run and executes nothing that a record holds."""

from __future__ import annotations

import base64
import json
import re
from html import escape as html_escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_records import write_board, write_fake

from vaebench.cli import main
from vaebench.configuration.discovery import datasets
from vaebench.evaluation.drawing.pictures import reconstruction_grid
from vaebench.leaderboard import boards, markdown
from vaebench.leaderboard.page import page, picture_rows
from vaebench.leaderboard.published import figures, published
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

    @property
    def data(self) -> dict[str, Any]:
        """What the scripts read, by id."""
        found = zip(self.every("script"), self.scripts, strict=True)
        return {
            str(a["id"]).removeprefix("data-"): json.loads(text)
            for a, text in found
            if a.get("type") == "application/json"
        }

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
    ours = [text for a, text in zip(parsed.every("script"), parsed.scripts, strict=True) if not a.get("type")]
    assert len(ours) == 3
    assert not [text for text in ours if "http" in text or "fetch(" in text]
    (policy,) = [m["content"] for m in parsed.every("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_what_a_record_holds_is_text_and_never_markup(rendered):
    parsed, html, _ = rendered
    assert not [attributes for _, attributes in parsed.elements if any(name.startswith("on") for name in attributes)]
    assert {a.get("type") for a in parsed.every("script")} == {None, "application/json", "text/plain"}
    assert EVIL in parsed.text
    assert EVIL in [variant["name"] for board in board_data(parsed) for variant in board["variants"]]
    assert f"beware of {EVIL}" in [warning for run in run_data(parsed).values() for warning in run["warnings"]]
    assert "alert('x')" not in html.replace("alert(&#39;x&#39;)", "").replace("alert(\\u0027x\\u0027)", "")


def board_data(parsed: Page) -> list[dict[str, Any]]:
    return [part for name, part in parsed.data.items() if name.startswith("board-")]


def run_data(parsed: Page) -> dict[str, Any]:
    return {name: part for name, part in parsed.data.items() if name.startswith("run-")}


def test_every_run_is_there_with_its_pictures_hashes_and_figures(rendered):
    parsed, _, records = rendered
    sections = [a for a in parsed.every("details") if a.get("class") == "run"]
    runs = run_data(parsed)
    assert {a["id"] for a in sections} == set(runs)
    assert len(runs) == len(records) == 11
    assert not parsed.every("img")  # pictures wait in the data until a run is opened
    by_digest = {run["hashes"]["digest"]: run for run in runs.values()}
    for record in records:
        run = by_digest[record.digest]
        assert run["hashes"]["record"] == record.id
        assert json.loads(run["config"]) == record.config
        assert run["curves"] == record.curves
        pngs = [base64.b64encode(path.read_bytes()).decode() for path in record.pictures().values()]
        assert [picture["png"] for picture in run["pictures"]] == pngs
        assert all((picture["width"], picture["height"]) == (320, 160) for picture in run["pictures"])
        assert {metric["name"] for metric in run["metrics"]} == {name.replace("_", " ") for name in record.metrics}
    drawn = [run for board in board_data(parsed) for variant in board["variants"] for run in variant["runs"]]
    assert {run["id"] for run in drawn} == set(runs)
    assert sorted(run["rate"] for run in drawn) == sorted(record.value("rate") for record in records)


def test_ids_are_unique_and_links_lead_somewhere(rendered):
    parsed, _, _ = rendered
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in ids)
    for attribute in ("href", "aria-labelledby", "aria-describedby", "for"):
        targets = [a[attribute].removeprefix("#") for _, a in parsed.elements if attribute in a]
        assert targets
        assert set(targets) <= set(ids)


def test_tables_can_be_sorted_by_keyboard_and_read_aloud(rendered):
    parsed, html, records = rendered
    tables = re.findall(r'<table class="sortable ranking">(.*?)</table>', html, re.DOTALL)
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


@pytest.mark.parametrize("name", ["record.json", "per_image.npz", "samples.png"])
def test_a_record_with_one_byte_changed_is_named_on_page_and_terminal_and_left_out(tmp_path, capsys, name):
    write_board(tmp_path / "results", {"vae": 0.0, "iwae": 1.0}, seeds=1)
    path = tmp_path / "results" / "iwae-s0" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    html = tmp_path / "page.html"
    assert main(["leaderboard", str(tmp_path / "results"), "--html", str(html)]) == 0
    told = capsys.readouterr()
    assert re.match(rf"\*\*Left out, damaged:\*\* .*/iwae-s0: {name} ", told.out)
    assert re.fullmatch(rf"vaebench: left out, damaged: .*/iwae-s0: {name} .*\n", told.err)
    assert "| iwae |" not in told.out
    assert "| vae |" in told.out
    parsed = Page(html.read_text(encoding="utf-8"))
    assert "1 damaged record left out" in parsed.text
    assert f"iwae-s0 {name} " in parsed.text
    assert [run["variant"] for run in run_data(parsed).values()] == ["vae"]


def test_metrics_are_defined_and_absence_is_explained(rendered):
    parsed, _, _ = rendered
    assert "Structural similarity." in parsed.text
    for run in run_data(parsed).values():
        (ssim,) = [metric for metric in run["metrics"] if metric["name"] == "ssim"]
        assert ssim["remark"] == "unavailable: images are smaller than the window"
    assert "is a tie" in parsed.text


def test_a_page_names_no_place_on_the_machine_and_is_the_same_every_time(results, rendered):
    _, html, records = rendered
    assert str(results) not in html
    assert page(boards(records), records) == html


@pytest.mark.parametrize(
    ("n", "shape"), [(300, (1, 8, 8)), (40, (1, 28, 28)), (37, (3, 32, 32)), (11, (1, 28, 20)), (7, (1, 64, 64))]
)
def test_the_page_cuts_reconstructions_into_the_rows_that_the_evaluation_draws(n, shape):
    x = torch.zeros(n, *shape)
    picture = reconstruction_grid(x, x)
    rows = picture_rows(n)
    tile = shape[1] * max(1, round(56 / max(shape[1:])))
    assert picture.shape[0] - 2 == rows * (tile + 2)


# Published figures ------------------------------------------------------------------------------------------------


def test_published_figures_stand_apart_and_are_never_ranked(tmp_path):
    """On a board of the same data they are in a table of their own, and neither rank nor Markdown knows of them."""
    data = {**write_fake(tmp_path / "digits", np.random.default_rng(0)).data, "name": "binarized_mnist"}
    for variant in ("vae", "iwae"):
        write_fake(tmp_path / variant, np.random.default_rng(0), variant=variant, data=data)
    _, html, records = render(tmp_path)
    mnist, digits = boards(records)
    assert {row.variant for row in mnist.rows} == {"vae", "iwae"}
    assert published(digits) == []
    known = [figure for figure in figures() if figure.data == ("binarized_mnist", "binary")]
    assert published(mnist) == known
    assert len(known) > 20
    (apart,) = re.findall(r'<section class="published".*?</section>', html, re.DOTALL)
    assert len(Page(apart).every("tr")) == 1 + len(known)
    ranked = "".join(re.findall(r'<table class="sortable ranking">.*?</table>', html, re.DOTALL))
    for figure in known:
        assert figure.source not in ranked + markdown(boards(records))
        assert html_escape(figure.source) in apart


def test_published_figures_say_where_they_stand_and_are_of_datasets_that_exist():
    known = datasets()
    assert len({figure.id for figure in figures()}) == len(figures()) > 50
    for figure in figures():
        assert figure.source
        assert figure.known in ("read", "quoted by others")
        name, measure = figure.data
        assert measure in known[name].measures
        assert figure.value < 0 if figure.metric in ("log_likelihood", "elbo") else figure.value > 0


def test_surrogates_stand_beside_no_published_likelihood(tmp_path):
    data = {**write_fake(tmp_path / "x", np.random.default_rng(0)).data, "name": "binarized_mnist"}
    write_fake(tmp_path / "y", np.random.default_rng(0), data=data, surrogate=True)
    assert [len(published(board)) for board in boards(read_records(tmp_path))] == [0, 0]


def test_a_page_of_nothing_but_damage_still_stands(tmp_path):
    harmed = write_fake(tmp_path / "run", np.random.default_rng(0)).path / "record.json"
    harmed.write_text("{}")
    parsed, _, records = render(tmp_path)
    assert (len(records), len(records.damaged)) == (0, 1)
    assert "1 damaged record left out" in parsed.text
