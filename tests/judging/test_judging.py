"""People as judges: balanced and blind questions, answers that are never lost, scores that are what they say."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
import scipy.stats
import torch
from fake_records import write_board
from fake_studies import RUNS, write_judged
from scipy.optimize import minimize
from starlette.testclient import TestClient

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.evaluation.drawing.pictures import _grid
from vaebench.functional.tiles import GAP, cut
from vaebench.judging.app import SAFE, application
from vaebench.judging.plan import ANSWERS, CHOICE, KINDS, RATING, REAL, Question, Slot, Study, questions
from vaebench.judging.scores import bradley_terry, mean, read_scores, scores, share
from vaebench.judging.serve import study
from vaebench.judging.store import Answer, Judgements
from vaebench.leaderboard import leaderboard
from vaebench.records import RunRecord, read_records

HERE, TOKEN = "http://127.0.0.1", "t0ken"
START = f"/{TOKEN}/"


def _study(runs: int = 3, rounds: int = 2, shown: str = "samples", kinds: tuple[str, ...] = KINDS) -> Study:
    return Study(tuple(f"run{i}" for i in range(runs)), shown, kinds, rounds, 7, 20, 12)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs whose pictures are grids, as the evaluation draws them, of known images."""
    return write_judged(tmp_path_factory.mktemp("judging") / "results")


def _started(results: Path, tmp_path: Path, *questions: str, show: str = "samples", rounds: int = 2) -> Any:
    runs = [str(results / name) for name in RUNS]
    return study(runs, tmp_path / "j.sqlite", show, questions or KINDS, rounds, results)


def _client(results: Path, tmp_path: Path, *kinds: str, **changes: Any) -> TestClient:
    return TestClient(application(*_started(results, tmp_path, *kinds, **changes), TOKEN), base_url=HERE)


# Questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("shown", ["samples", "reconstructions"])
def test_every_pair_run_and_side_comes_equally_often(runs: int, shown: str) -> None:
    for judge in range(4):
        asked = questions(_study(runs, 4, shown), judge)
        pairs = Counter(tuple(slot.run for slot in q.slots) for q in asked if q.kind == CHOICE)
        assert pairs == {pair: 2 for i, j in combinations(range(runs), 2) for pair in ((i, j), (j, i))}
        assert Counter(q.slots[0].run for q in asked if q.kind == RATING) == dict.fromkeys(range(runs), 4)
        real = Counter(q.slots[0].run for q in asked if q.kind == REAL)
        assert real == {**dict.fromkeys(range(runs), 4), None: 4 * runs}, "half of them are real"
    both = [tuple(s.run for s in q.slots) for j in (0, 1) for q in questions(_study(runs, 1), j) if q.kind == CHOICE]
    assert set(Counter(both).values()) == {1}, "an odd number of rounds balances over two judges"
    assert len(both) == runs * (runs - 1)


def test_any_beginning_is_balanced_within_a_round() -> None:
    asked = [q for q in questions(_study(4, 6), 0) if q.kind == CHOICE]
    for end in range(len(asked)):
        counts = Counter(frozenset(s.run for s in q.slots) for q in asked[:end])
        assert max(counts.values(), default=0) - min(counts[frozenset(p)] for p in combinations(range(4), 2)) <= 1


def test_questions_are_the_same_for_a_judge_and_in_another_order_for_another() -> None:
    assert questions(_study(), 0) == questions(_study(), 0)
    assert questions(_study(), 0) != questions(_study(), 1)
    orders = [[q.slots for q in questions(_study(4, 4), judge) if q.kind == CHOICE] for judge in range(3)]
    assert len(set(map(str, orders))) == 3


def test_no_image_comes_again_before_all_have() -> None:
    asked = questions(_study(3, 10, kinds=(CHOICE,)), 0)  # 20 images of each run, 20 questions with each
    for run in range(3):
        assert Counter(s.image for q in asked for s in q.slots if s.run == run) == dict.fromkeys(range(20), 1)


def test_two_reconstructions_are_of_one_image() -> None:
    asked = [q for q in questions(_study(shown="reconstructions"), 0) if q.kind == CHOICE]
    assert all(q.slots[0].image == q.slots[1].image for q in asked)
    assert len({q.slots[0].image for q in asked}) == len(asked)


# Images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 20), (1, 64, 64)])
def test_a_grid_is_cut_into_the_images_that_it_was_made_of(shape: tuple[int, ...]) -> None:
    images = torch.rand(14, *shape, generator=torch.Generator().manual_seed(0))
    rows = cut(_grid(list(images.split(10))), shape)
    assert [len(row) for row in rows] == [10, 10], "the last places are paper"
    for tile, image in zip([tile for row in rows for tile in row], images, strict=False):
        zoom = tile.shape[0] // shape[1]
        expected = (image * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(tile[::zoom, ::zoom], expected)
    with pytest.raises(ValueError, match="no grid"):
        cut(np.zeros((GAP + 7, 100, 3), np.uint8), shape)


def test_images_are_those_of_the_records(results: Path, tmp_path: Path) -> None:
    _, images = _started(results, tmp_path)
    assert [len(made) for made in images.made] == [80, 80, 80]
    assert len(images.originals) == 40
    _, shown = study([str(results / name) for name in RUNS], tmp_path / "r", "reconstructions", KINDS, 2, results)
    assert [len(made) for made in shown.made] == [40, 40, 40]
    assert shown.made[0] == images.made[0][:40], "the fixture reconstructs by its samples"


# The page ---------------------------------------------------------------------------------------------------------


def _begin(client: TestClient, name: str = "Ada") -> str:
    response = client.post(START, data={"name": name}, follow_redirects=False)
    assert response.status_code == 303
    return response.headers["location"]


def _answer(client: TestClient, place: str, answer: str = "") -> str:
    """Answers the question that is shown and returns the next page."""
    html = client.get(place).text
    number = re.search(r'name="question" value="(\d+)"', html)[1]
    values = re.findall(r'name="answer" value="(\w+)"', html)
    response = client.post(place, data={"question": number, "answer": answer or values[0]})
    assert response.status_code == 200
    return response.text


@pytest.mark.parametrize("show", ["samples", "reconstructions"])
def test_a_judge_answers_everything_blind(results: Path, tmp_path: Path, show: str) -> None:
    client = _client(results, tmp_path, show=show)
    place, total = _begin(client), 2 * (3 + 3 + 6)
    secrets = {*RUNS, *(record.id for record in read_records(results)), *(r.digest[:16] for r in read_records(results))}
    for number in range(total):
        html = client.get(place).text
        assert f"Question {number + 1} of {total}" in html
        assert not [secret for secret in secrets if secret in html]
        sources = set(re.findall(r"(?:src|href|action)=\"([^\"]*)", html))
        assert all(re.fullmatch(r"data:,|[a-z0-9-]+\.(css|js|png)", source) for source in sources), "nowhere else"
        for source in re.findall(r'<img src="([^"]+)" alt="[a-z ]+">', html):
            picture = client.get(place + source)
            assert picture.content.startswith(b"\x89PNG")
            assert picture.headers["cache-control"] == "no-store"
        _answer(client, place)
    assert "Thank you" in client.get(place).text
    answers = Judgements(tmp_path / "j.sqlite").answers()
    assert len(answers) == total
    digests = {record.digest for record in read_records(results)}
    assert {a.first for a in answers} == {*digests, None}
    for kind in KINDS:
        assert {a.answer for a in answers if a.kind == kind} == {ANSWERS[kind][0]}


def test_what_is_kept_is_what_was_shown(results: Path, tmp_path: Path) -> None:
    file, images = _started(results, tmp_path, CHOICE)
    client = TestClient(application(file, images, TOKEN), base_url=HERE)
    place = _begin(client)
    for number in range(6):
        left, right = (client.get(f"{place}{number}-{slot}.png").content for slot in (0, 1))
        _answer(client, place, "second")
        answer = file.answers()[-1]
        for digest, png in ((answer.first, left), (answer.second, right)):
            assert png in images.made[file.study().runs.index(str(digest))]
        assert answer.answer == "second"


def test_only_the_question_that_is_asked_is_shown_and_taken(results: Path, tmp_path: Path) -> None:
    client = _client(results, tmp_path, CHOICE)
    place = _begin(client)
    file = Judgements(tmp_path / "j.sqlite")
    assert client.get(f"{place}1-0.png").status_code == 404, "no look ahead"
    assert client.get(f"{place}0-2.png").status_code == 404
    assert client.post(place, data={"question": "0", "answer": "both"}).status_code == 400
    assert client.post(place, data={"question": "3", "answer": "first"}).status_code == 200
    assert client.post(place, content=b"x" * 20_000).status_code == 413
    assert file.answers() == []
    for answer in ("second", "first"):  # a key that was held, or a page that was sent twice
        client.post(place, data={"question": "0", "answer": answer})
    assert [a.answer for a in file.answers()] == ["second"]


def test_an_address_goes_on_where_it_stopped(results: Path, tmp_path: Path) -> None:
    client = _client(results, tmp_path, CHOICE)
    place = _begin(client, "Ada")
    _answer(client, place)
    other = _begin(client, "Bob <b>&\"'")
    assert other != place
    assert "Question 1 of" in client.get(other).text
    assert "Question 2 of" in client.get(place).text
    assert client.post(START, data={"name": "  "}).status_code == 200
    assert client.post(START, data={"name": "  "}).text == client.get(START).text


def test_the_page_can_be_used_without_a_mouse_or_sight_of_colours(results: Path, tmp_path: Path) -> None:
    client = _client(results, tmp_path)
    place = _begin(client)
    html = client.get(place).text
    assert '<html lang="en">' in html
    assert "width=device-width" in html
    assert html.count("<h1") == 1
    assert 'aria-labelledby="question"' in html
    assert 'aria-keyshortcuts="1 ArrowLeft"' in html
    assert 'aria-keyshortcuts="2 ArrowRight"' in html
    assert re.findall(r'<img [^>]*alt="([^"]*)"', html) == ["left image", "right image"]
    assert '<label for="name">' in client.get(START).text
    for name, kind in (("judge.css", "text/css"), ("judge.js", "text/javascript")):
        assert client.get(place + name).headers["content-type"].startswith(kind)
        assert "http" not in client.get(place + name).text
    assert {name: client.get(place).headers[name] for name in SAFE} == SAFE
    assert '<link rel="icon" href="data:,">' in html
    assert "img-src 'self' data:;" in SAFE["Content-Security-Policy"], "the icon was an error in the console"


# The file ---------------------------------------------------------------------------------------------------------


def test_what_was_answered_survives_a_kill_and_the_study_goes_on(results: Path, tmp_path: Path) -> None:
    """SIGKILL right after the third answer was acknowledged; the same file then goes on with the fourth question."""
    base = [sys.executable, "-m", "vaebench", "judge", f"--judgements={tmp_path}/j.sqlite", "--port=0",
            f"--results={results}"]  # fmt: skip

    @contextmanager
    def serving(*names: str) -> Iterator[str]:
        """The address of a page, whose process is killed at the end of the block."""
        process = subprocess.Popen([*base, *names], stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()

    def send(address: str, **fields: str) -> str:
        with urlopen(address, urlencode(fields).encode() or None, timeout=60) as response:
            return f"{urlsplit(response.url).path} {response.read().decode()}"

    with serving(*RUNS) as address:
        place, _, html = send(address, name="Ada").partition(" ")
        assert "Question 1 of 24" in html
        for number in range(3):
            page = send(urljoin(address, place), question=str(number), answer="first")
            assert f"Question {number + 2} of 24" in page
    assert len(Judgements(tmp_path / "j.sqlite").answers()) == 3
    with serving() as address:
        assert "Question 4 of 24" in send(urljoin(address, place)), "the address outlives the server"
    with sqlite3.connect(tmp_path / "j.sqlite") as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",), "a copy of the file misses nothing"
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()


def test_a_file_that_was_begun_and_not_written_is_begun_again(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "j.sqlite").close()
    (tmp_path / "j.sqlite").touch()
    assert Judgements(tmp_path / "j.sqlite").start(_study()) == _study()
    assert Judgements(tmp_path / "j.sqlite").study() == _study()


def test_what_cannot_be_judged_is_said_in_one_sentence(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*argv: object) -> str:
        assert main(["judge", *map(str, argv), "--port=0"]) == 2
        return capsys.readouterr().err

    file = f"--judgements={tmp_path}/j.sqlite"
    one, two = results / RUNS[0], results / RUNS[1]
    assert "a choice needs two runs" in fails(one, file)
    assert "named twice" in fails(one, one, file)
    assert "--rounds is 0" in fails(one, two, file, "--rounds=0")
    assert "no file" in fails(file)
    assert not (tmp_path / "j.sqlite").exists()
    write_board(tmp_path / "binary", {"a": 0.0, "b": 0.0}, seeds=1)
    a, b = tmp_path / "binary" / "a-s0", tmp_path / "binary" / "b-s0"
    assert "other test images" in fails(one, a, file)
    assert "is binary" in fails(a, b, file, "--questions", "real")
    assert "cannot be cut into images" in fails(a, b, file)
    (tmp_path / "text").write_text("no database, but a text of some length")
    assert "cannot be used as a file of judgements" in fails(one, two, f"--judgements={tmp_path}/text")
    _started(results, tmp_path)
    assert "holds a study with other rounds" in fails(*(results / name for name in RUNS), file, "--rounds=3",
                                                      "--questions", *KINDS)  # fmt: skip
    assert "is not below" in fails(file, f"--results={tmp_path}/binary")
    assert "cannot listen on 'no.such.host.invalid'" in fails(
        file, f"--results={results}", "--host=no.such.host.invalid"
    )


# Scores -----------------------------------------------------------------------------------------------------------


def test_strengths_of_two_runs_are_the_log_odds() -> None:
    """With w wins to l the difference of the strengths is log(w/l), and its variance 1/w + 1/l."""
    first, second = bradley_terry(2, [(0, 1)] * 30 + [(1, 0)] * 10)
    assert first.value == pytest.approx(np.log(3) / 2, abs=1e-6)
    assert second.value == pytest.approx(-np.log(3) / 2, abs=1e-6)
    half = 1.959964 * np.sqrt(1 / 30 + 1 / 10) / 2
    assert (first.high or 0) - (first.value or 0) == pytest.approx(half, rel=1e-5)
    assert first.n == 40


def test_strengths_are_those_of_the_greatest_likelihood() -> None:
    rng = np.random.default_rng(0)
    wins = [tuple(rng.permutation(4)[:2]) for _ in range(120)]

    def loss(theta: np.ndarray) -> float:
        return float(sum(np.log1p(np.exp(theta[loser] - theta[winner])) for winner, loser in wins))

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-7}).x
    found = [judged.value for judged in bradley_terry(4, wins)]
    np.testing.assert_allclose(found, best - best.mean(), atol=1e-4)


def test_intervals_cover_the_strengths_of_simulated_judges() -> None:
    """Balanced studies of four runs: 95 % intervals hold the truth in 93 to 97 % of 2,400 cases."""
    rng, truth = np.random.default_rng(0), np.array([-0.9, -0.2, 0.3, 0.8])
    pairs = np.array(list(combinations(range(4), 2)) * 40)
    p = 1 / (1 + np.exp(truth[pairs[:, 1]] - truth[pairs[:, 0]]))
    hits = []
    for _ in range(600):
        won = rng.random(len(pairs)) < p
        wins = [(int(a), int(b)) if first else (int(b), int(a)) for (a, b), first in zip(pairs, won, strict=True)]
        hits += [(j.low or 0) <= t <= (j.high or 0) for j, t in zip(bradley_terry(4, wins), truth, strict=True)]
    assert 0.93 <= np.mean(hits) <= 0.97


def test_without_a_greatest_likelihood_there_is_no_strength() -> None:
    for wins in ([(0, 1), (0, 2), (1, 2), (2, 1)], [(0, 1), (1, 0)]):
        found = bradley_terry(3, wins)
        assert [judged.value for judged in found] == [None] * 3
        assert all("no maximum likelihood" in judged.unavailable for judged in found)


def test_shares_and_means_have_the_intervals_of_the_textbook() -> None:
    for k, n in [(0, 10), (3, 10), (10, 10), (1, 1), (250, 1000)]:
        z = scipy.stats.norm.ppf(0.975)  # Wilson's limits are where |k/n − p| is z standard errors
        found, limits = share(k, n), np.roots([n + z**2, -(2 * k + z**2), k**2 / n])
        assert (found.low, found.high) == pytest.approx(tuple(100 * np.sort(limits)), abs=1e-9)
        assert found.value == pytest.approx(100 * k / n)
    values = [1, 4, 5, 3, 2, 2]
    low, high = scipy.stats.t.interval(0.95, 5, np.mean(values), scipy.stats.sem(values))
    found = mean(values)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert (mean([4]).value, mean([4]).low) == (4, None)


def test_answers_are_counted_for_the_run_that_was_shown() -> None:
    answers = [
        Answer(0, CHOICE, "a", "b", "first"), Answer(0, CHOICE, "b", "a", "second"),
        Answer(1, CHOICE, "a", "b", "second"), Answer(0, RATING, "a", None, "5"), Answer(1, RATING, "a", None, "4"),
        Answer(0, RATING, "b", None, "1"), Answer(0, REAL, "b", None, "real"), Answer(1, REAL, "b", None, "generated"),
        Answer(0, REAL, None, None, "real"),
    ]  # fmt: skip
    found = scores(("a", "b"), answers)
    assert found["a"]["preferred"].value == pytest.approx(np.log(2) / 2, abs=1e-6)
    assert found["b"]["preferred"].value == pytest.approx(-np.log(2) / 2, abs=1e-6)
    assert (found["a"]["rated"].value, found["b"]["rated"].value) == (4.5, 1.0)
    assert found["a"].keys() == {"preferred", "rated"}
    assert (found["b"]["fooled"].value, found["b"]["fooled"].n) == (50.0, 2), "test images fool nobody"


def test_scores_join_the_leaderboard_as_columns(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = _started(results, tmp_path, rounds=4)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    runs: dict[str, RunRecord] = {record.digest: record for record in read_records(results)}
    for judge in range(3):
        number = file.find(file.enrol(f"judge {judge}"))
        for at, question in enumerate(questions(file.study(), number)):
            file.add(number, at, question, _opinion(question, judge + at))
    columns = read_scores(tmp_path / "j.sqlite")
    assert columns.keys() == runs.keys()
    assert main(["leaderboard", str(results), f"--judgements={tmp_path}/j.sqlite", f"--html={tmp_path}/p.html"]) == 0
    text = capsys.readouterr().out
    assert "preferred (logits)" in text
    for digest, record in runs.items():
        score = columns[digest]["rated"]
        (line,) = [line for line in text.splitlines() if f"| {record.variant} " in line]
        assert f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})" in line
    assert "taken for real" in (tmp_path / "p.html").read_text("utf-8")
    assert "preferred" not in leaderboard(results), "without a file there are no such columns"
    assert before == {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="no file"):
        leaderboard(results, judgements=tmp_path / "nowhere")


def _opinion(question: Question, turn: int) -> str:
    return ANSWERS[question.kind][turn % len(ANSWERS[question.kind])]


def test_a_slot_without_a_run_is_a_test_image() -> None:
    asked = [q for q in questions(_study(), 0) if q.kind == REAL and q.slots[0].run is None]
    assert all(q.slots == (Slot(None, q.slots[0].image),) and q.slots[0].image < 12 for q in asked)
