"""The page in a real browser: what a reader does with mouse, keyboard, phone and screen reader; it asks for nothing."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import TEXTS
from fake_records import fake_arrays, fake_body, fake_grids, unavailable, write_board
from PIL import Image

from vaebench.leaderboard import leaderboard
from vaebench.records import RunRecord, read_records, write_record

CROWDED = "#board-digits-binary-k-1000"
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
MEANS = {"vae": 0.0, "iwae": 1.0, "beta_vae": -2.0, "free_bits": -1.0}
BOARD = "#board-binarized-mnist-binary-k-1000"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


def write(path: Path, rng: np.random.Generator, mean: float = 0.0, *, shared: bool = True, **changes: Any) -> RunRecord:
    """A run on static MNIST with pictures as the evaluation lays them out; `shared`: of the others' test images."""
    arrays = fake_arrays(rng, mean)
    body = fake_body(arrays, **changes)
    body["data"] = {**body["data"], "name": "binarized_mnist"}
    grids = fake_grids(rng)
    if not shared:
        grids["reconstructions"] = np.roll(grids["reconstructions"], 58, 1)
    return write_record(path, body, arrays, grids)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four variants of two seeds, a hostile one, one without a figure, one of other test images, a damaged record."""
    path, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    for variant, mean in MEANS.items():
        for seed in (0, 1):
            write(path / f"{variant}-{seed}", rng, mean, variant=variant, seed=seed)
    write(
        path / "evil", rng, -3.0, variant=EVIL, config={EVIL: EVIL}, warnings=[EVIL], collapse={"verdict": "collapsed"}
    )
    write(path / "other", rng, -4.0, variant="other images", shared=False)
    arrays = fake_arrays(rng)
    body = fake_body({name: arrays[name] for name in arrays}, variant="wae")
    body["metrics"]["log_likelihood"] = unavailable("no density")
    body["data"] = {**body["data"], "name": "binarized_mnist"}
    write_record(path / "wae", body, {name: a for name, a in arrays.items() if name != "log_likelihood"}, {})
    harmed = write(path / "harmed", rng, 9.0, variant="harmed").path / "per_image.npz"
    raw = bytearray(harmed.read_bytes())
    raw[-1] ^= 1
    harmed.write_bytes(raw)
    return path


@pytest.fixture(scope="module")
def html(results: Path) -> Path:
    path = results.with_name("page.html")
    leaderboard(results, path, single=True)  # scripts may not read the pixels of pictures in files
    return path


def run_id(results: Path, variant: str, seed: int = 0) -> str:
    (record,) = [r for r in read_records(results) if r.variant == variant and r.seed == seed]
    return f"run-{record.id}"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of more variants than a legend can name."""
    path = tmp_path_factory.mktemp("crowded")
    write_board(path / "results", {f"variant {i}": float(i) for i in range(20)}, seeds=1)
    leaderboard(path / "results", path / "page.html", single=True)
    return path / "page.html"


@pytest.fixture
def visit(browser: Any, html: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page; whatever was then done with it, it has said nothing on the console and asked for nothing."""
    said: list[str] = []
    asked: list[str] = []
    contexts, known = [], set()

    def opened(fragment: str = BOARD, file: Path = html, **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 500}, **settings})
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri() + fragment)
        known.add(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} <= known


def column(page: Any, key: str) -> list[str | None]:
    """What the rows that are shown sort by in a column of the ranking."""
    return page.eval_on_selector_all(
        f".ranking tbody tr:not([hidden]) .{key}", "cells => cells.map(cell => cell.dataset.sort ?? null)"
    )


def names(page: Any) -> list[str | None]:
    return column(page, "variant")


# Table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["Enter", " ", None])
def test_a_column_sorts_both_ways_by_keyboard_and_mouse_with_what_is_absent_last(visit, key):
    page = visit()
    button = page.locator(".ranking th.log_likelihood button")

    def press() -> list[str | None]:
        if key is None:
            button.click()
        else:
            button.focus()
            page.keyboard.press(key)
        return column(page, "log_likelihood")

    for falling in (True, False, True):
        *values, last = press()
        assert last is None
        figures = [float(value) for value in values]
        assert figures == sorted(figures, reverse=falling)
        states = page.eval_on_selector_all(".ranking thead th", "cells => cells.map(cell => cell.ariaSort)")
        assert [state for state in states if state != "none"] == ["descending" if falling else "ascending"]


def test_words_sort_as_words(visit):
    page = visit()
    page.locator(".ranking th.variant button").click()
    found = names(page)
    assert found == sorted(found)


def test_the_filter_keeps_rows_and_runs_that_hold_all_words(visit):
    page = visit()
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.id") != "filter":
        page.keyboard.press("Tab")
    page.keyboard.type("VAE bet")
    assert names(page) == ["beta_vae"]
    assert page.locator("#shown").inner_text() == "1 of 7 shown"
    runs = "runs => runs.filter(run => !run.hidden).map(run => run.querySelector('.name').textContent)"
    assert page.eval_on_selector_all("details.run", runs) == ["beta_vae", "beta_vae"]
    page.locator("#filter").fill("collapsed")
    assert names(page) == [EVIL.casefold()]
    page.keyboard.press("Enter")  # submits nothing
    page.locator("#filter").fill("")
    assert len(names(page)) == 7
    assert page.locator("#shown").inner_text() == ""


def test_published_figures_are_a_table_of_their_own(visit):
    page = visit()
    region = page.get_by_role("region", name="Published figures, not measured here")
    assert region.get_by_role("row").count() > 20
    assert "Burda 2015" in region.inner_text()
    assert "Burda" not in page.locator(".ranking").inner_text()
    region.get_by_role("button", name="value", exact=True).click()
    cells = region.locator("tbody td.figure:nth-of-type(3)").evaluate_all(
        "c => c.map(cell => Number(cell.dataset.sort))"
    )
    assert cells == sorted(cells, reverse=True)


# Views and their addresses ---------------------------------------------------------------------------------------


def test_the_first_screen_says_who_leads_and_a_card_leads_to_its_board(visit):
    page = visit("")
    assert page.locator(".view.current").get_attribute("id") == "index"
    card = page.locator(".card", has_text="binarized_mnist")
    assert "iwae leads by" in card.inner_text()
    assert card.evaluate("card => card.getBoundingClientRect().bottom <= innerHeight + 200")
    card.get_by_role("link", name="binarized_mnist · binary").focus()
    page.keyboard.press("Enter")
    page.locator(f"{BOARD}.current").wait_for()
    assert not page.locator("#index").is_visible()
    page.go_back()
    page.locator("#index.current").wait_for()


def test_the_filter_finds_what_its_hint_says(visit):
    page = visit()
    for word in page.locator("#filter-help i").all_inner_texts():
        page.locator("#filter").fill(word)
        found = names(page)
        assert bool(found) == (word == "partial")  # no variant here weighs samples
    page.locator("#filter").fill("binarized plain")
    assert len(names(page)) == 7


def test_the_address_holds_what_was_chosen_and_brings_it_back(visit, results):
    page = visit()
    page.locator(".chooser summary").click()
    for key in ("elbo", "kind"):
        page.locator(f".chooser input[value={key}]").check()
    page.locator(".ranking th.elbo button").click()
    page.locator("#filter").fill("vae")
    compare = page.locator(".compare")
    compare.scroll_into_view_if_needed()
    compare.locator("select.a").select_option(value=run_id(results, "beta_vae"))
    compare.locator("select.b").select_option(value=run_id(results, "free_bits", 1))
    page.locator(".metric").select_option("elbo")
    address = page.evaluate("location.hash")
    again = visit(address)
    assert names(again) == names(page)
    assert column(again, "elbo") == column(page, "elbo") == sorted(column(page, "elbo"), key=float, reverse=True)
    assert again.locator("#filter").input_value() == "vae"
    assert again.locator(".metric").input_value() == "elbo"
    assert again.locator("select.a").input_value() == run_id(results, "beta_vae")
    assert again.locator("select.b").input_value() == run_id(results, "free_bits", 1)
    assert again.locator(".ranking td.kind").first.is_visible()
    assert not again.locator(".ranking td.parameters").first.is_visible()


def test_the_forest_shows_another_figure_without_a_verdict_and_comes_back(visit, results):
    page = visit()
    before = page.locator(".marks").inner_html()
    page.locator(".metric").select_option("rate" if page.locator(".metric option[value=rate]").count() else "elbo")
    records = read_records(results)
    means = {v: np.mean([r.value("elbo") for r in records if r.variant == v]) for v in {r.variant for r in records}}
    shown = page.locator(".mark .who").all_inner_texts()
    assert shown == sorted(shown, key=lambda name: -means[name])
    assert "without a verdict" in page.locator(".axis").inner_text()
    page.locator(".metric").select_option("log_likelihood")
    assert page.locator(".marks").inner_html() == before


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_table_fits_the_screen_and_keeps_the_score(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    room = page.locator(".current .ranking").evaluate(
        "t => [t.closest('.scroll').scrollWidth, t.closest('.scroll').clientWidth]"
    )
    assert room[0] <= room[1]
    cell = page.locator(".ranking tbody td.log_likelihood").first
    box = cell.bounding_box()
    assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_board_is_copied_and_a_copied_cell_has_no_footnote(visit, html):
    page = visit()
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator(".copier summary").click()
    page.get_by_role("button", name="csv", exact=True).click()
    assert page.locator(".copied").inner_text() == "csv copied"
    told = page.evaluate("copied")
    assert told == json.loads(re.findall(r'id="copy-[\w-]+-csv">(.*?)</script>', html.read_text())[0])
    assert told.startswith("board,variant,rank_first")
    assert told.count("\n") == 8
    copied = page.locator(".ranking td.rank:has(sup)").first.evaluate(
        "cell => { getSelection().selectAllChildren(cell); return getSelection().toString(); }"
    )
    assert copied.strip() in ("–", "provisional", *(str(rank) for rank in range(10)))


def test_escape_closes_a_menu_and_returns_to_its_button(visit):
    page = visit()
    page.locator(".chooser summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert not page.locator(".chooser").evaluate("menu => menu.open")
    assert page.evaluate("document.activeElement.closest('.chooser') !== null")


def test_pictures_beside_the_page_are_shown_and_compared(results, tmp_path, browser):
    leaderboard(results, tmp_path / "page.html")
    context = browser.new_context(viewport={"width": 1280, "height": 500})
    page = context.new_page()
    failed: list[str] = []
    page.on("console", lambda message: failed.append(message.text))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto((tmp_path / "page.html").as_uri() + BOARD)
    compare = page.locator(".compare")
    compare.scroll_into_view_if_needed()
    compare.locator(".triple canvas").first.wait_for()
    assert compare.locator(".most").count() == 6
    page.goto((tmp_path / "page.html").as_uri() + f"#{run_id(results, 'iwae')}")
    image = page.locator("details.run[open] img").first
    image.evaluate("image => image.decode()")
    assert image.evaluate("image => image.naturalWidth") > 0
    assert failed == []
    context.close()


def test_where_two_differ_most_are_the_images_of_the_largest_differences(visit, results):
    page = visit()
    compare = page.locator(".compare")
    compare.scroll_into_view_if_needed()
    compare.locator(".most").first.wait_for()
    a, b = (
        next(r for r in read_records(results) if r.variant == variant and r.seed == 0).per_image()["log_likelihood"][
            :40
        ]
        for variant in ("iwae", "vae")
    )
    order = np.argsort(-np.abs(a - b))[:6]
    shown = compare.locator(".most figcaption").all_inner_texts()
    expected = [f"image {i}, A and B: {'A' if a[i] > b[i] else 'B'} is better by" for i in order]
    assert [text.rpartition(" by ")[0] + " by" for text in shown] == expected


# Runs -------------------------------------------------------------------------------------------------------------


def test_a_run_opens_from_the_table_by_keyboard_with_figures_curves_pictures_and_config(visit, results):
    page = visit()
    (record,) = [r for r in read_records(results) if r.variant == "iwae" and r.seed == 0]
    link = page.locator(".ranking th.variant a", has_text="iwae")
    link.focus()
    page.keyboard.press("Enter")
    run = page.locator("details.run[open]:has(summary:focus)")
    run.wait_for()
    assert run.get_attribute("id") == f"run-{record.id}"
    assert run.locator(".config").inner_text().startswith('{\n  "data"')
    assert record.digest in run.inner_text()
    assert run.locator(".metrics tbody tr").count() == len(record.metrics)
    assert "unavailable: images are smaller than the window" in run.inner_text()
    run.locator(".plot").first.scroll_into_view_if_needed()
    run.locator(".plot .main-svg").first.wait_for()
    assert run.locator(".plot").count() == len(record.curves)
    for image in run.locator("img").all():
        image.evaluate("image => image.decode()")
    assert run.locator("img").count() == 2
    sent = run.locator("img").first.get_attribute("src").removeprefix("data:image/png;base64,")
    assert base64.b64decode(sent) == record.pictures()["reconstructions"].read_bytes()


def test_an_address_with_a_run_opens_it(visit, results):
    wanted = run_id(results, "vae", 1)
    page = visit(f"#{wanted}")
    assert page.locator("details.run[open]").get_attribute("id") == wanted
    assert page.locator(".board.current").count() == 1


def test_texts_of_records_stay_texts_where_scripts_show_them(visit):
    page = visit()
    page.locator(".ranking th.variant a", has_text="onerror").click()
    run = page.locator("details.run[open]")
    assert EVIL in run.locator(".warnings").inner_text()
    assert EVIL in run.locator(".config").inner_text()
    compare = page.locator(".compare")
    compare.locator("select.a").select_option(label=f"{EVIL}, seed 0")
    compare.locator("figcaption", has_text=EVIL).first.wait_for()
    plane(page)
    assert page.locator("img[src=x]").count() == 0


# Side by side -----------------------------------------------------------------------------------------------------


def pixels(canvas: Any) -> np.ndarray:
    address = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def test_any_two_runs_stand_side_by_side_on_the_same_test_images(visit, results):
    """Each row of test images over the reconstructions of A and of B: the pixels are those of the records' pictures."""
    page = visit()
    compare = page.locator(".compare")
    compare.scroll_into_view_if_needed()
    compare.locator("canvas").first.wait_for()
    for letter, wanted in (("A", "free_bits, seed 1"), ("B", "vae, seed 0")):
        choice = compare.get_by_label(letter, exact=True)
        choice.focus()
        page.keyboard.press("Home")
        for _ in range(choice.locator("option").all_inner_texts().index(wanted)):
            page.keyboard.press("ArrowDown")
    compare.locator("figcaption", has_text="B: vae, seed 0").wait_for()
    compare.locator("figcaption", has_text="A: free_bits, seed 1").wait_for()
    shown = [pixels(canvas) for canvas in compare.locator(".triple canvas").all()]
    chosen = {(r.variant, r.seed): r for r in read_records(results)}
    a, b = (
        np.asarray(Image.open(chosen[key].pictures()["reconstructions"]).convert("RGB"))
        for key in (("free_bits", 1), ("vae", 0))
    )
    assert len(shown) == 12
    for row in range(4):
        image, of_a, of_b = shown[3 * row : 3 * row + 3]
        top = 2 * row * 58
        assert np.array_equal(image, a[top : top + 60])
        assert np.array_equal(image, b[top : top + 60])
        assert np.array_equal(of_a, a[top + 58 : top + 118])
        assert np.array_equal(of_b, b[top + 58 : top + 118])
        assert not np.array_equal(of_a, of_b)
    figures = compare.locator("tr", has=page.get_by_role("rowheader", name="log likelihood")).inner_text().split("\t")
    expected = [chosen[key].value("log_likelihood") for key in (("free_bits", 1), ("vae", 0))]
    assert figures[1:3] == [f"{value:.4f}".replace("-", "−") for value in expected]


def test_pictures_of_other_test_images_are_not_passed_off_as_the_same(visit):
    page = visit()
    compare = page.locator(".compare")
    compare.scroll_into_view_if_needed()
    compare.locator("select.b").select_option(label="other images, seed 0")
    compare.get_by_text("do not show the same test images").wait_for()
    assert compare.locator("canvas").count() == 0
    assert compare.get_by_role("img", name="reconstructions of other images, seed 0").count() == 1
    compare.locator("select.b").select_option(label="wae, seed 0")
    compare.get_by_text("wae, seed 0 has no such picture.").first.wait_for()


# Plots ------------------------------------------------------------------------------------------------------------


def plane(page: Any) -> Any:
    node = page.locator("[data-plot=plane]").first
    node.scroll_into_view_if_needed()
    node.locator(".main-svg").first.wait_for()
    return node


def test_the_plane_shows_every_run_the_front_and_lines_of_slope_minus_one(visit, results):
    page = visit()
    node = plane(page)
    front, *variants = node.evaluate("node => node.data.map(({ x, y, name }) => ({ x, y, name }))")
    records = read_records(results)
    points = {(record.value("rate"), record.value("distortion")) for record in records}
    assert {(x, y) for trace in variants for x, y in zip(trace["x"], trace["y"], strict=True)} == points
    means = {
        name: tuple(np.mean([[r.value("rate"), r.value("distortion")] for r in records if r.variant == name], 0))
        for name in {record.variant for record in records}
    }
    places = list(means.values())
    best = [(r, d) for r, d in places if not any((s <= r and e <= d) and (s, e) != (r, d) for s, e in places)]
    assert np.allclose(list(zip(front["x"], front["y"], strict=True)), sorted(best), rtol=1e-12)
    lines = node.evaluate("node => node.layout.shapes")
    assert len(lines) > 2
    for line in lines:
        assert (line["y1"] - line["y0"]) / (line["x1"] - line["x0"]) == pytest.approx(-1)
    labels = node.evaluate("node => node.layout.annotations.map(({ x, y, text }) => [x + y, text])")
    assert labels
    for total, text in labels:
        assert float(text.removeprefix("ELBO −")) == pytest.approx(total)


def test_of_many_variants_every_run_is_drawn_and_the_first_have_colours_and_a_legend(visit, crowded):
    page = visit(CROWDED, file=crowded)
    _, others, *traces = plane(page).evaluate("node => node.data.map(({ customdata, name }) => ({ customdata, name }))")
    assert (others["name"], len(others["customdata"]), len(traces)) == ("the others", 10, 10)
    shown = [run for trace in (others, *traces) for run in trace["customdata"]]
    assert sorted(shown) == sorted(f"run-{record.id}" for record in read_records(crowded.parent / "results"))
    bounds = page.locator("[data-plot=bounds]")
    bounds.scroll_into_view_if_needed()
    bounds.locator(".main-svg").first.wait_for()
    lines = bounds.evaluate(
        "node => node.data.map(({ x, connectgaps }) => [x.filter(v => v === null).length, connectgaps])"
    )
    assert sum(count for count, _ in lines) == 10  # a gap after each
    assert not any(connected for _, connected in lines)


def test_no_two_variants_of_a_legend_look_alike(visit, tmp_path):
    """Also where other boards have many variants, between which those of this one stand in the alphabet."""
    write_board(tmp_path / "results" / "one", {f"variant {8 * i}": float(i) for i in range(10)}, seeds=1)
    others = {f"variant {i}": float(i) for i in range(96) if i % 8}
    write_board(tmp_path / "results" / "two", others, seeds=1, surrogate=True)
    leaderboard(tmp_path / "results", tmp_path / "page.html", single=True)
    page = visit(CROWDED, file=tmp_path / "page.html")
    marks = plane(page).evaluate("node => node.data.slice(1).map(({ marker }) => [marker.color, marker.symbol].join())")
    bounds = page.locator("[data-plot=bounds]").first
    bounds.scroll_into_view_if_needed()
    bounds.locator(".main-svg").first.wait_for()
    lines = bounds.evaluate("node => node.data.map(({ line }) => [line.color, line.dash].join())")
    assert len(set(marks)) == len(set(lines)) == 10


MARK = """node => {
  const box = node.getBoundingClientRect(), { xaxis, yaxis, _size: size } = node._fullLayout;
  const { x, y, customdata } = node.data[1];
  return { x: box.x + size.l + xaxis.l2p(x[0]), y: box.y + size.t + yaxis.l2p(y[0]), run: customdata[0] };
}"""


def test_a_click_on_a_mark_opens_its_run(visit):
    page = visit()
    node = plane(page)
    target = node.evaluate(MARK)
    for _ in range(2):
        page.mouse.move(target["x"], target["y"])
        page.mouse.click(target["x"], target["y"])
        run = page.locator(f"details.run[open]#{target['run']}")
        run.wait_for()
        run.locator("summary").click()  # closes it; the same mark opens it again
        assert run.count() == 0
        node.scroll_into_view_if_needed()
        target = node.evaluate(MARK)


def test_the_filter_keeps_marks_and_an_address_of_a_run_lifts_it(visit, results):
    page = visit()
    node = plane(page)
    page.locator("#filter").fill("iwae")
    page.wait_for_function("node => node.data.length === 2", arg=node.element_handle())
    assert node.evaluate("node => node.data[1].customdata") == [run_id(results, "iwae", seed) for seed in (0, 1)]
    wanted = run_id(results, "vae")
    page.evaluate(f"location.hash = '{wanted}'")
    page.locator(f"details.run[open]#{wanted}").wait_for()
    assert page.locator("#filter").input_value() == ""
    page.wait_for_function("node => node.data.length > 2", arg=node.element_handle())


# Colours, phone, no scripts ---------------------------------------------------------------------------------------

LIGHTNESS = (
    "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + Number(b), 0) / 765"
)


def test_colours_follow_the_system_until_the_reader_chooses_and_are_remembered(visit):
    page = visit(color_scheme="light")
    assert page.evaluate(LIGHTNESS) > 0.9
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(LIGHTNESS) < 0.1
    node = plane(page)
    before = node.evaluate("node => node.layout.font.color")
    page.get_by_label("Colours").select_option("light")
    assert page.evaluate(LIGHTNESS) > 0.9
    assert node.evaluate("node => node.layout.font.color") != before
    page.reload()
    assert page.evaluate(LIGHTNESS) > 0.9
    page.get_by_label("Colours").select_option("as the system")
    assert page.evaluate(LIGHTNESS) < 0.1


def test_a_phone_shows_all_of_it_without_scrolling_sideways(visit, results):
    page = visit(f"#{run_id(results, 'iwae')}", **PHONE)
    page.locator("details.run[open] .plot").first.scroll_into_view_if_needed()
    page.locator("details.run[open] .plot .main-svg").first.wait_for()
    compare = page.locator(".compare")
    compare.scroll_into_view_if_needed()
    compare.locator("canvas").first.wait_for()
    plane(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    sizes = [text["size"] for text in page.evaluate(TEXTS) if not text["small"]]
    assert min(sizes) >= 12
    edges = page.eval_on_selector_all(
        ".comparison canvas, .plot, select", "n => n.map(e => e.getBoundingClientRect().right)"
    )
    assert max(edges) <= 360


def test_without_scripts_the_tables_are_there_and_nothing_that_does_not_work(visit):
    page = visit(java_script_enabled=False)
    assert page.locator(".ranking tbody tr").count() == 7
    assert page.get_by_text("need JavaScript").is_visible()
    assert [control for control in page.locator("select, input, .runs, .plot").all() if control.is_visible()] == []


# Accessibility ----------------------------------------------------------------------------------------------------


def unfolded(visit: Callable[..., Any], results: Path, **settings: Any) -> Any:
    """The page with a run open, two compared and the plots drawn."""
    page = visit(f"#{run_id(results, 'iwae')}", **settings)
    page.locator("details.run[open] .plot").first.scroll_into_view_if_needed()
    page.locator("details.run[open] .plot .main-svg").first.wait_for()
    page.locator(".compare").scroll_into_view_if_needed()
    page.locator(".compare canvas").first.wait_for()
    page.locator(".budgets summary").first.click()
    plane(page)
    return page


def test_every_text_stands_out_from_what_is_behind_it_in_light_and_dark(visit, results):
    page = unfolded(visit, results)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for _ in range(50):  # plots are painted again after the colours of the page have changed
            texts = page.evaluate(TEXTS)
            faint = [text for text in texts if text["contrast"] < 4.5]
            if not faint:
                break
            page.wait_for_timeout(100)
        assert len(texts) > 300
        assert faint == []


NAMED = {
    "button",
    "link",
    "combobox",
    "searchbox",
    "img",
    "image",
    "region",
    "table",
    "navigation",
    "DisclosureTriangle",
}
ONCE = ("banner", "main", "contentinfo", "search", "navigation", "alert")


def test_a_screen_reader_finds_landmarks_headings_and_a_name_for_everything(visit, results):
    """What Chromium hands to assistive technology."""
    page = unfolded(visit, results)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    nodes = [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", "").strip(),
            **{p["name"]: p["value"].get("value") for p in node.get("properties", [])},
        }
        for node in tree
        if not node["ignored"]
    ]
    roles = [node["role"] for node in nodes]
    assert [roles.count(role) for role in ONCE] == [1] * len(ONCE)
    assert {"button", "link", "combobox", "searchbox", "region", "DisclosureTriangle"} <= set(roles)
    assert [node for node in nodes if (node["role"] in NAMED - {"table"} or node.get("focusable")) and not node["name"]
            and node["role"] not in ("RootWebArea", "main")] == []  # fmt: skip
    levels = [node["level"] for node in nodes if node["role"] == "heading"]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    regions = [node["name"] for node in nodes if node["role"] == "region"]
    assert len(regions) == len(set(regions))
    assert page.evaluate("document.documentElement.lang && document.title")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    wide = (
        "n => n.scrollWidth > n.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(n).overflowX) && n.tabIndex < 0"
    )
    assert page.evaluate(f"[...document.querySelectorAll('body *')].filter({wide}).map(n => n.outerHTML)") == []


FOCUS = """() => {
  const node = document.activeElement, box = node.getBoundingClientRect();
  const { outlineWidth, outlineStyle } = getComputedStyle(node);
  return {
    place: [...document.querySelectorAll("*")].indexOf(node), what: node.outerHTML.slice(0, 80),
    body: node === document.body, seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight,
    outline: parseFloat(outlineWidth) > 0 && outlineStyle !== "none",
  };
}"""


def test_tab_walks_through_everything_in_reading_order_and_shows_where_it_is(visit):
    page = visit(reduced_motion="reduce")
    page.locator("details.runs").evaluate("node => (node.open = true)")
    for plot in page.locator(".plot:visible").all():  # drawn when it is first seen, with controls of its own
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
    page.locator(".skip").focus()  # an address with a board starts there
    places = [page.evaluate(FOCUS)["place"]]
    for _ in range(500):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUS)
        if at["body"] or at["place"] in places:
            break
        assert at["seen"], at
        assert at["outline"], at
        places.append(at["place"])
    assert places == sorted(places)
    wanted = "a[href], button, input, select, summary, [tabindex='0']"
    assert len(places) == page.evaluate(
        f'[...document.querySelectorAll("{wanted}")].filter(n => n.checkVisibility()).length'
    )


# Damage -----------------------------------------------------------------------------------------------------------


def test_a_record_with_one_byte_changed_is_named_and_left_out_loudly(visit):
    page = visit()
    alert = page.get_by_role("alert")
    assert alert.is_visible()
    assert "1 damaged record left out" in alert.inner_text()
    assert "harmed per_image.npz is not what was written: its SHA-256 does not match" in alert.inner_text()
    assert "harmed" not in names(page)
    assert page.evaluate("document.querySelector('[role=alert]').getBoundingClientRect().bottom < innerHeight")
