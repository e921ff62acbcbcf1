"""The judges' page in a real browser: keys, phone, screen reader, and no request to anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import TEXTS
from fake_studies import RUNS, serving, write_judged

from vaebench.judging.app import application
from vaebench.judging.plan import CHOICE, RATING
from vaebench.judging.serve import study
from vaebench.judging.store import Judgements

TOKEN = "t0ken"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judged(tmp_path_factory.mktemp("judging") / "results")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "j.sqlite"


@pytest.fixture
def visit(browser: Any, results: Path, file: Path) -> Iterator[Callable[..., Any]]:
    """Serves a study and opens it as a judge; the page says nothing on the console and asks no other server."""
    names = [str(results / name) for name in RUNS]
    app = application(*study(names, file, "reconstructions", (CHOICE, RATING), 1, results), TOKEN)
    said: list[str] = []
    hosts: set[str] = set()
    contexts = []
    with serving(app) as address:

        def opened(name: str = "Ada", **settings: Any) -> Any:
            contexts.append(browser.new_context(**settings))
            page = contexts[-1].new_page()
            page.set_default_timeout(60_000)
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: hosts.add(request.url.split("/")[2 if "://" in request.url else 0]))
            page.goto(f"http://{address}/{TOKEN}/")
            page.fill("#name", name)
            press(page, "Enter")
            return page

        try:
            yield opened
        finally:
            for context in contexts:
                context.close()
    assert said == []
    assert hosts - {"data:,"} == {address}


def press(page: Any, key: str) -> None:
    with page.expect_navigation():
        page.keyboard.press(key)


def test_keys_answer_and_other_keys_do_not(visit: Callable[..., Any], file: Path) -> None:
    page = visit()
    for key in ("x", "3", "Control+1", "ArrowUp"):
        page.keyboard.press(key)
    assert page.title() == "Question 1 of 6"
    for key in ("1", "ArrowRight", "ArrowLeft", "4", "1", "5"):
        press(page, key)
    assert page.inner_text("h1") == "Thank you"
    answers = [answer.answer for answer in Judgements(file).answers()]
    assert answers == ["first", "second", "first", "4", "1", "5"]


def test_two_clicks_are_one_answer_and_the_page_answers_again_after_going_back(
    visit: Callable[..., Any], file: Path
) -> None:
    page = visit()
    with page.expect_navigation():
        page.get_by_role("button", name="the right one").evaluate("button => { button.click(); button.click(); }")
    assert page.title() == "Question 2 of 6"
    page.goto(page.url + "#again")
    page.go_back()
    press(page, "1")
    assert page.title() == "Question 3 of 6"
    assert [answer.answer for answer in Judgements(file).answers()] == ["second", "first"]


def test_a_phone_shows_images_and_answers_without_scrolling_sideways(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    for _ in range(3):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        boxes = [image.bounding_box() for image in page.locator("img").all()]
        assert len(boxes) == 3
        assert min(box["width"] for box in boxes) >= 120
        assert len({round(box["width"]) for box in boxes}) == 1, "what is compared is shown in one size"
        assert min(button.bounding_box()["height"] for button in page.get_by_role("button").all()) >= 44
        with page.expect_navigation():
            page.get_by_role("button").first.tap()


def test_texts_stand_out_and_everything_has_a_name(visit: Callable[..., Any]) -> None:
    page = visit()
    for _ in range(2):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert [text for text in page.evaluate(TEXTS) if text["contrast"] < 4.5] == []
        tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
        named = [name for role, name in nodes if role in ("button", "image", "img", "group", "progressIndicator")]
        assert len(named) >= 5
        assert all(named)
        assert sum(role == "main" for role, _ in nodes) == sum(role == "heading" for role, _ in nodes) == 1
        for _ in range(3):
            press(page, "1")


def test_a_form_on_another_page_is_refused_though_it_knows_the_address(browser: Any, results: Path, file: Path) -> None:
    """On another site, another port of this machine or a page without an origin; the page's own form works."""
    kept, images = study([str(results / name) for name in RUNS], file, "samples", (CHOICE,), 1, results)
    key = kept.enrol("Ada")
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    with serving(application(kept, images, TOKEN)) as address:
        form = f"""<form method="post" action="http://{address}/{key}/"><input name="question" value="0">
            <button name="answer" value="first">Win a prize</button></form>"""
        for origin in ("http://evil.example", "http://127.0.0.1:1", "data:"):
            page.route(f"{origin}/", lambda route: route.fulfill(body=form, content_type="text/html"))
            page.goto(f"data:text/html,{form}" if origin == "data:" else f"{origin}/")
            with page.expect_navigation():
                page.click("button")
            assert "another site" in page.inner_text("main"), origin
        assert kept.answers() == []
        page.goto(f"http://{address}/{key}/")
        press(page, "1")
        assert [answer.answer for answer in kept.answers()] == ["first"]
        context.close()
