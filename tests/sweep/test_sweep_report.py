"""The report of a sweep: the best trial and its command first, and a page that fits its reader."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import TEXTS
from fake_records import fake_arrays, fake_body, write_fake
from optuna import create_trial
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from vaebench.records import write_record
from vaebench.sweep.show.page import write_sweep_report
from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage.study import connect, create_study, default_storage

ROOT = Path(__file__).parents[2]
TEXT = f"""
sweep: shown
configs: [{ROOT}/configs/data/digits.yaml, {ROOT}/configs/family/beta_vae.yaml]
space:
  model.beta: {{float: [0.1, 10], log: true}}
  model.schedule: {{choice: [Constant, Linear]}}
pruner: asha
stop: {{trials: 8}}
"""
DISTRIBUTIONS = {
    "model.beta": FloatDistribution(0.1, 10, log=True),
    "model.schedule": CategoricalDistribution(["Constant", "Linear"]),
}
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def finished(beta: float, *values: float, **notes: Any) -> FrozenTrial:
    return create_trial(
        values=values, params={"model.beta": beta, "model.schedule": "Linear"}, distributions=DISTRIBUTIONS,
        intermediate_values={1: -30.0, 2: values[0] - 1} if len(values) == 1 else {}, user_attrs=notes,
    )  # fmt: skip


def write_report(folder: Path, trials: list[FrozenTrial], more: str = "") -> tuple[Sweep, str]:
    """A sweep with these trials, and its page."""
    (folder / "shown.yaml").write_text(TEXT + more)
    sweep = read_sweep(folder / "shown.yaml")
    study = create_study(sweep, connect(sweep, default_storage(sweep, folder)), resume=True)
    study.add_trials(trials)
    return sweep, write_sweep_report(sweep, study, folder).read_text()


TRIALS = [
    finished(4.0, -24.0, records=["vae-s0-1"]),
    finished(0.5, -20.5, records=["vae-s0-2"]),
    finished(0.7, -21.25, records=["gone"]),
    create_trial(state=TrialState.PRUNED, params={"model.beta": 9.0, "model.schedule": "Constant"},
                 distributions=DISTRIBUTIONS, intermediate_values={1: -40.0}),
    create_trial(state=TrialState.FAIL, params={"model.beta": 0.1, "model.schedule": "Linear"},
                 distributions=DISTRIBUTIONS, user_attrs={"error": f"Diverged: the loss is not finite {EVIL}"}),
]  # fmt: skip


def text_of(page: str) -> str:
    """What a reader reads: no scripts, styles or tags."""
    return unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    for name in ("vae-s0-1", "vae-s0-2"):
        write_fake(path / "shown" / name, np.random.default_rng(0))
    write_report(path, TRIALS)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "shown" / "report.html").read_text()


def test_the_best_trial_and_its_command_come_first(page: str, folder: Path) -> None:
    sweep, text = read_sweep(folder / "shown.yaml"), " ".join(text_of(page).split())
    assert "5 settings tried: 3 finished, 1 pruned, 1 failed." in text
    assert "Best: trial 1 beta=0.5 schedule=Linear log_likelihood −20.50 nats" in text
    assert "Next comes trial 2 (beta=0.7 schedule=Linear), 0.75 nats behind." in text
    command = unescape(re.search(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL)[1])
    told = sweep.arguments({"model.beta": 0.5, "model.schedule": "Linear"}, 0)
    assert [Path(word).name for word in shlex.split(command.replace("\\\n", ""))[2:]] == [
        Path(word).name for word in told
    ]
    assert page.index("<pre") < page.index("All trials") < page.index('class="plot')


def test_trials_stand_from_the_best_to_the_failed(page: str) -> None:
    assert re.findall(r'<th scope="row" class="figure">(\d+)', page) == ["1", "2", "0", "3", "4"]


def test_records_are_linked_where_they_are_and_nothing_else_is_asked_for(page: str, folder: Path) -> None:
    links = re.findall(r'<a href="([^"#]+)">', page[: page.index("<footer>")])
    assert sorted(set(links)) == ["vae-s0-1/record.json", "vae-s0-2/record.json"]
    assert all((folder / "shown" / link).is_file() for link in links)
    assert "gone" in text_of(page), "a record that lies elsewhere is named"
    asked_for = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)", page)
    assert asked_for == ["../plotly.min.js"]
    assert (folder / "shown" / asked_for[0]).is_file(), "the one file that the charts of all sweeps share"


def test_no_exception_no_path_of_this_machine_and_no_markup_of_a_trial_is_shown(page: str) -> None:
    """Defect: a chart that could not be drawn, and a trial that failed, showed the class of the exception."""
    text = text_of(page)
    assert "failed: the loss is not finite" in text
    assert not re.search(r"\b\w*Error\b|Diverged|Traceback", text)
    assert str(ROOT) not in page
    assert EVIL not in page


@pytest.mark.parametrize(("trials", "words"), [([], "No trial has finished"), (TRIALS[3:], "No trial has finished")])
def test_a_sweep_without_a_finished_trial_has_a_page(trials: list[FrozenTrial], words: str, tmp_path: Path) -> None:
    page = write_report(tmp_path, trials)[1]
    assert words in text_of(page)
    assert "Cannot be drawn" not in page


def test_a_pareto_front_has_a_command_a_trial(tmp_path: Path) -> None:
    arrays = fake_arrays(np.random.default_rng(0))
    write_record(tmp_path / "shown" / "vae-s0-1", fake_body(arrays), arrays, {})
    more = "objectives: {rate: minimise, distortion: minimise}\n"
    text = TEXT.replace("pruner: asha\n", "")
    (tmp_path / "shown.yaml").write_text(text + more)
    sweep = read_sweep(tmp_path / "shown.yaml")
    study = create_study(sweep, connect(sweep, default_storage(sweep, tmp_path)), resume=True)
    study.add_trials([finished(b, b, 10 / b, records=["vae-s0-1"]) for b in (1.0, 2.0)] + [finished(3.0, 3.0, 9.0)])
    page = write_sweep_report(sweep, study, tmp_path).read_text()
    assert "Pareto front of 2 trials" in page
    assert len(re.findall(r"<pre", page)) == 2
    assert " ".join(text_of(page).split()).count("rate 1.00 nats · distortion 10.00 nats") == 1


SIZES = [(1440, "light"), (1440, "dark"), (1024, "light"), (390, "light"), (390, "dark")]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_fits_and_can_be_read(width: int, scheme: str, browser: Any, folder: Path) -> None:
    """In a browser: nothing sticks out, the best trial is on the first screen, text has contrast, charts are drawn."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.goto((folder / "shown" / "report.html").as_uri())
    page.locator(".plot .main-svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("pre").bounding_box()["y"] < 900
    assert page.locator(".plot").count() == page.locator(".plot.js-plotly-plot").count() >= 4
    assert [text for text in page.evaluate(TEXTS) if text["contrast"] < 4.5] == []
    assert faults == []
    page.close()


def test_a_command_is_copied(browser: Any, folder: Path) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto((folder / "shown" / "report.html").as_uri())
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_text("copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("pre code").text_content().strip()
    context.close()
