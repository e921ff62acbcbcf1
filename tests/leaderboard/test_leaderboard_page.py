"""The page is one sound, self-contained HTML file that shows every run and executes nothing that a record holds."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections import Counter
from html import escape as html_escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_records import fake_arrays, fake_body, write_board, write_fake
from rich.console import Console

from vaebench.cli import main
from vaebench.commands._boards import print_boards
from vaebench.configuration.discovery import datasets, names
from vaebench.evaluation.drawing.pictures import reconstruction_grid
from vaebench.leaderboard import boards, markdown
from vaebench.leaderboard.definitions import definitions, merged
from vaebench.leaderboard.forest import forest, round_values
from vaebench.leaderboard.formats import FORMATS
from vaebench.leaderboard.kinds import WEIGHTED, kind
from vaebench.leaderboard.page import page, write_page
from vaebench.leaderboard.page_data import picture_rows
from vaebench.leaderboard.published import published, published_figures
from vaebench.records import Records, RunRecord, read_records

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
        assert [picture["src"] for picture in run["pictures"]] == [f"data:image/png;base64,{png}" for png in pngs]
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
    assert {a["type"] for a in parsed.every("input")} == {"search", "checkbox"}
    assert len(parsed.every("output")) == 1 + len(tables)  # of the filter, and of what was copied


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


# What stands on it ------------------------------------------------------------------------------------------------


def test_pictures_stand_beside_the_page_or_in_it_and_those_of_a_former_page_go(tmp_path):
    records = write_board(tmp_path / "results", {"vae": 0.0, "iwae": 1.0}, seeds=1)
    found = boards(records)
    path, all_records = tmp_path / "page.html", read_records(tmp_path / "results")
    write_page(path, found, all_records)
    folder = tmp_path / "page_files"
    run = next(part for name, part in Page(path.read_text()).data.items() if name.startswith("run-"))
    sent = [(tmp_path / picture["src"]).read_bytes() for picture in run["pictures"]]
    (record,) = [record for record in all_records if record.digest == run["hashes"]["digest"]]
    assert sent == [file.read_bytes() for file in record.pictures().values()]
    assert "img-src data: &#39;self&#39; file:;" in path.read_text()
    (folder / "mine.png").write_bytes(b"kept")
    write_page(path, boards(records[:1]), all_records)
    assert len(list(folder.glob("*.png"))) == 3  # two of the run, and the reader's own
    write_page(path, found, all_records, single=True)
    assert "page_files" not in path.read_text()


def test_addresses_of_boards_and_runs_stay_when_records_are_added(tmp_path):
    write_board(tmp_path / "results", {"vae": 0.0}, seeds=2)
    before, _, _ = render(tmp_path / "results")
    write_board(tmp_path / "results" / "more", {"iwae": 1.0, "beta_vae": -1.0}, seeds=1)
    after, _, records = render(tmp_path / "results")
    assert set(run_data(before)) < set(run_data(after)) == {f"run-{record.id}" for record in records}
    assert {name for name in before.data if name.startswith("board-")} == {"board-digits-binary-k-1000"}
    assert "board-digits-binary-k-1000" in after.data


def test_a_run_that_is_there_twice_has_two_addresses(tmp_path):
    for name in ("once", "again"):
        write_fake(tmp_path / name, np.random.default_rng(0))
    parsed, _, records = render(tmp_path)
    assert len({record.id for record in records}) == 1
    assert set(run_data(parsed)) == {f"run-{records[0].id}", f"run-{records[0].id}-2"}


def test_a_card_says_who_leads_by_how_much_and_whether_it_is_decided(tmp_path):
    write_board(tmp_path / "decided", {"vae": 0.0, "iwae": 3.0})
    write_board(tmp_path / "provisional", {"vae": 0.0, "iwae": 3.0}, seeds=1, surrogate=True)
    parsed, html, records = render(tmp_path)
    (card,) = re.findall(r'<li class="card".*?\n</li>', html, re.DOTALL)
    text = " ".join(Page(card).text.split())
    gap = abs(boards(records)[0].rows[1].gap.difference)
    assert f"digits · binary 2 models · 3 seeds each · 60 test images iwae leads by {gap:.2f} nats decided" in text
    assert f"iwae leads vae by {gap:.2f} nats, beyond the noise of seeds and images." in text
    assert "surrogate likelihoods 2 models, provisional" in text
    assert "which holds unless seeds scatter by more than" in parsed.text


def test_the_forest_is_drawn_to_scale_with_hollow_marks_for_one_seed(tmp_path):
    write_board(tmp_path / "three", {"vae": 0.0, "twin": 0.0, "best": 3.0})
    write_board(tmp_path / "one", {"alone": -1.0}, seeds=1)
    _, html, records = render(tmp_path)
    (board,) = boards(records)
    drawn = forest(board)
    low, high = drawn.axis
    marks = re.findall(r'<li class="mark".*?</li>', html)
    assert len(marks) == len(board.rows) == 4
    for row, mark in zip(board.rows, marks, strict=True):
        difference = row.gap.difference if row.gap else 0.0
        (at,) = re.findall(r'<i class="dot[^"]*" style="left:([\d.]+)%"', mark)
        assert float(at) == pytest.approx(100 * (min(max(difference, low), high) - low) / (high - low), abs=1e-3)
        assert ("dot hollow" in mark) == (len(row.seeds) == 1)
        if row.gap and not row.gap.provisional and low <= row.gap.interval[0] and row.gap.interval[1] <= high:
            ((start, width),) = re.findall(r'<i class="both" style="left:([\d.]+)%;width:([\d.]+)%"', mark)
            ends = [low + (high - low) * float(part) / 100 for part in (start, float(start) + float(width))]
            assert ends == pytest.approx(row.gap.interval, abs=1e-3 * (high - low))


def test_the_band_of_ties_holds_those_that_the_board_does_not_tell_from_the_leader(tmp_path):
    write_board(tmp_path, {"best": 3.0, "twin": 3.0, "poor": 0.0})
    drawn = forest(boards(read_records(tmp_path))[0])
    assert [mark.tie for mark in drawn.marks] == [True, True, False]
    assert drawn.band == (drawn.marks[1].difference, 0.0)


def test_kinds_are_what_a_model_is_about():
    def told(family: str, **named: str) -> str:
        init = {part: {"class_path": path} for part, path in named.items()}
        body = fake_body(fake_arrays(np.random.default_rng(0)), family=family)
        body["config"]["model"]["init_args"] |= init
        return kind(RunRecord(**{**body, "files": {}}))

    plain = {"posterior": "vaebench.posteriors.DiagonalGaussian", "prior": "vaebench.priors.StandardNormal"}
    assert told("vae", **plain) == told("wae_mmd") == "plain"
    assert told("iwae", **plain) == "importance-weighted"
    assert told("factor_vae") == "disentangling"
    assert told("vae", prior="vaebench.priors.vamp.VampPrior") == "prior"
    assert told("vae", posterior="vaebench.posteriors.flows.InverseAutoregressive") == "posterior"
    assert told("hvae", posterior="vaebench.posteriors.hierarchy.TopDown") == "hierarchy"
    assert told("vq_vae", posterior="vaebench.posteriors.codes.VectorQuantised") == "discrete"
    assert set(WEIGHTED) <= set(names("family"))


def test_every_metric_is_defined_once_and_none_is_out_of_none(rendered):
    parsed, _, _ = rendered
    assert "out of None" not in parsed.text
    found = [
        definition.name for definition in definitions(read_records(Path(__file__).parents[2] / "results" / "frey"))
    ]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["L_K, K = 500", "L_K, K = 100"], "L_K, K = 100 or 500"),
        ([f"out of {n}" for n in (5, 50, 9, 120, 7)], "out of 5 to 120"),
        (["out of None", "out of 50"], "out of 50"),
        (
            ["a bound", "a bound", "a bound; p(z) with an estimated Z"],
            "a bound; for some models: p(z) with an estimated Z",
        ),
        (["in closed form", "by samples"], "in closed form; for some models: by samples"),
    ],
)
def test_wordings_that_differ_in_numbers_are_one_definition(texts, expected):
    assert merged(Counter(texts)) == expected


# Formats ----------------------------------------------------------------------------------------------------------


def test_a_board_is_copied_as_csv_and_json_with_figures_that_are_not_rounded(tmp_path):
    records = write_board(tmp_path, {"vae": 0.0, "=iwae": 1.0})
    found = boards(records)
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](found))))
    (told,) = json.loads(FORMATS["json"](found))
    assert [line["variant"] for line in lines] == ["'=iwae", "vae"]  # a spreadsheet would compute what begins with =
    for line, row, board_row in zip(lines, told["rows"], found[0].rows, strict=True):
        assert float(line["mean"]) == row["mean"] == board_row.estimates["log_likelihood"].mean
        assert row["records"] == [record.id for record in board_row.records]
    assert (told["state"], told["higher_is_better"]) == ("decided", True)


def test_no_heading_of_a_csv_is_a_formula_and_none_of_markdown_is_markup(tmp_path):
    """Defect: names and units of figures, which come from records, stood there as they were."""
    body = fake_body(fake_arrays(np.random.default_rng(0)))
    odd = {**body["metrics"]["elbo"], "unit": "|<b>"}
    write_board(tmp_path, {"vae": 0.0}, metrics={**body["metrics"], "=1+1": odd, "log_likelihood": odd})
    found = boards(read_records(tmp_path))
    names = next(csv.reader(io.StringIO(FORMATS["csv"](found))))
    assert "'=1+1" in names
    assert not [name for name in names if name[:1] in "=+-@"]
    text = FORMATS["markdown"](boards(read_records(tmp_path), "=1+1"))
    assert r"(\|\<b>)" in text
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| ")}) == 1


@pytest.mark.parametrize("far", [1e-8, 3.0, 1e10, 1e99])
def test_differences_of_any_size_have_ticks(far):
    """Defect: a difference beyond six billion nats, as of a model that diverges on an image, ended the page."""
    assert 1 <= len(round_values(-far, far / 10)) <= 7


def test_latex_has_a_cell_for_every_column_and_escapes_what_it_reads_as_commands(tmp_path):
    write_board(tmp_path, {r"50%_of\all & more": 0.0, "vae": 1.0})
    text = FORMATS["latex"](boards(read_records(tmp_path)))
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 3
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert r"50\%\_of\textbackslash{}all \& more" in text
    assert "$-$" in text


def test_bibtex_names_the_papers_of_the_models_and_invents_no_title():
    records = read_records(Path(__file__).parents[2] / "results" / "frey")
    text = FORMATS["bibtex"](boards(records))
    assert "@misc{kingma2014,\n  title = {{Auto-Encoding Variational Bayes}},\n  author = {Kingma and Welling}," in text
    assert len(re.findall(r"^@misc\{(\w+),", text, re.MULTILINE)) == text.count("@misc")
    assert text.count("{") == text.count("}")


def test_the_command_prints_a_format_alone(tmp_path, capsys):
    write_board(tmp_path / "results", {"vae": 0.0}, seeds=1)
    page_at = tmp_path / "page.html"
    assert main(["leaderboard", str(tmp_path / "results"), "--format", "json", "--html", str(page_at)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)[0]["rows"][0]["variant"] == "vae"
    assert f"Page: {page_at}" in told.err


@pytest.mark.parametrize("width", [60, 90, 140])
def test_a_table_in_the_terminal_fits_its_width_and_has_the_score(tmp_path, width):
    write_board(tmp_path, {"vae": 0.0, "a variant of a long name": 1.0})
    out = io.StringIO()
    found = boards(read_records(tmp_path))
    print_boards(found, console=Console(file=out, width=width, force_terminal=True, color_system=None))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    (line,) = [line for line in lines if " a variant of a long name " in line and "leads" not in line]
    assert f"{found[0].rows[0].estimates['log_likelihood'].mean:.2f}".replace("-", "−") in line
    assert any(line.startswith("decided: a variant of a long name leads vae by") for line in lines) or width == 60


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
    known = [figure for figure in published_figures() if figure.data == ("binarized_mnist", "binary")]
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
    assert len({figure.id for figure in published_figures()}) == len(published_figures()) > 50
    for figure in published_figures():
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
