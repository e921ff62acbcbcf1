"""The judges' server attacked by other sites' pages, other judges, odd addresses, large bodies and strangers' files."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_studies import RUNS, serving, write_judged
from starlette.testclient import TestClient

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.judging.app import application
from vaebench.judging.guard import BODY, SAFE
from vaebench.judging.images import PngImages
from vaebench.judging.plan import CHOICE
from vaebench.judging.scores import read_scores
from vaebench.judging.serve import study
from vaebench.judging.store import TABLES, Judgements
from vaebench.records import read_records

HERE, TOKEN = "http://127.0.0.1:8780", "t0ken"
START = f"/{TOKEN}/"
FIRST = {"question": "0", "answer": "first"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judged(tmp_path_factory.mktemp("judging") / "results")


@pytest.fixture
def started(results: Path, tmp_path: Path) -> tuple[Judgements, PngImages]:
    return study([str(results / name) for name in RUNS], tmp_path / "j.sqlite", "samples", (CHOICE,), 2, results)


@pytest.fixture
def file(started: tuple[Judgements, PngImages]) -> Judgements:
    return started[0]


@pytest.fixture
def client(started: tuple[Judgements, PngImages]) -> TestClient:
    return TestClient(application(*started, TOKEN), base_url=HERE, follow_redirects=False)


def _enrolled(file: Judgements, name: str = "Ada") -> str:
    """A new judge's address."""
    key = file.enrol(name)
    assert key is not None
    assert len(key) >= 22, "128 bits"
    return f"/{key}/"


# Other pages ------------------------------------------------------------------------------------------------------

FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:8781"},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://localhost:8780"},
    {"origin": "http://127.0.0.1:8780.evil.example"},
    {"origin": HERE, "sec-fetch-site": "cross-site"},
    {"origin": HERE, "sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_an_answer_from_another_page_is_refused(client: TestClient, file: Judgements, headers: dict[str, str]) -> None:
    place = _enrolled(file)
    assert client.post(place, data=FIRST, headers=headers).status_code == 403
    assert client.post(START, data={"name": "Eve"}, headers=headers).status_code == 403
    assert file.answers() == []
    assert file.enrol("Eve") is not None, "nobody took the name"
    for own in ({"origin": HERE, "sec-fetch-site": "same-origin"}, {"origin": HERE}):
        assert client.post(place, data=FIRST, headers=own).status_code == 303
    assert len(file.answers()) == 1


REBOUND = ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example/127.0.0.1",
           "localhost.evil", "evil.example#localhost", "[::1].evil.example", "127.0.0.1:8780:80", "0x7f.1", "",
           " "]  # fmt: skip


@pytest.mark.parametrize("host", REBOUND)
def test_a_name_that_was_rebound_to_this_machine_shows_and_takes_nothing(
    client: TestClient, file: Judgements, host: str
) -> None:
    place = _enrolled(file)
    for address in (START, place, f"{place}0-0.png", f"{place}judge.js"):
        response = client.get(address, headers={"host": host})
        assert response.status_code == 400
        assert "Judging" not in response.text.partition("<body>")[2]
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert client.post(place, data=FIRST, headers=headers).status_code == 400
    assert file.answers() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "0.0.0.0"])
def test_every_host_is_served_under_a_token_and_its_own_names_alone(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    """--host 127.0.0.2 was answered with "Invalid host header"; 127.0.0.1 asked for no token."""
    import uvicorn

    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    apps: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, _: apps.append(self.config.app))
    command = ["judge", *(str(results / name) for name in RUNS), f"--judgements={tmp_path}/j", f"--host={host}"]
    for _ in range(2):
        assert main([*command, "--port=0", "--name=Judges.example"]) == 0
    addresses = re.findall(r"http://\S+", capsys.readouterr().out)
    tokens = [address.split("/")[3] for address in addresses]
    assert len(set(tokens)) == 2, "new each time"
    assert all(len(token) >= 22 for token in tokens), "128 bits"
    client = TestClient(apps[0], base_url=addresses[0].partition(tokens[0])[0])
    assert client.get(f"/{tokens[0]}/").status_code == 200
    for address in ("/", "/?token=", f"/?token={tokens[0]}", f"/{tokens[1]}/", f"/{tokens[0]}x/", "/judge.css"):
        response = client.get(address)
        assert response.status_code == 404
        assert tokens[0] not in response.text
    for name in ("judges.example", "localhost:80", *([socket.gethostname()] if host == "0.0.0.0" else [])):
        assert client.get(f"/{tokens[0]}/", headers={"host": name}).status_code == 200
    assert client.get(f"/{tokens[0]}/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    ["--name=judges.example:80", "--name=http://a", "--name=", "--host=a..b", f"--host={'a' * 99}", "--host=a\0b"],
)
def test_a_host_that_cannot_be_is_refused_in_one_sentence(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    runs = [str(results / name) for name in RUNS]
    assert main(["judge", *runs, f"--judgements={tmp_path}/j", "--port=0", wrong]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected" in line


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_nothing_of_the_page_is_framed_cached_or_embedded_elsewhere(client: TestClient, file: Judgements) -> None:
    place = _enrolled(file)
    evil = {"host": "evil.example"}
    for response in (client.get(START), client.get(place), client.get(f"{place}0-0.png"), client.get("/nowhere/"),
                     client.get(START, headers=evil), client.post(place, data=FIRST)):  # fmt: skip
        assert {name: response.headers[name] for name in SAFE} == SAFE
        assert "set-cookie" not in response.headers, "a cookie would be sent with other pages' requests"
    assert "frame-ancestors 'none'" in SAFE["Content-Security-Policy"]
    assert "unsafe" not in SAFE["Content-Security-Policy"]


# Other judges -----------------------------------------------------------------------------------------------------


def test_nobody_answers_for_another_by_number_name_or_invitation(
    client: TestClient, file: Judgements, tmp_path: Path
) -> None:
    place = _enrolled(file)
    for address in ("/0/", "/1/", "/judge/0", "/judge/0/", f"{START}0/", f"/{TOKEN}0/"):
        assert client.get(address).status_code == 404
        assert client.post(address, data=FIRST).status_code in (404, 405)
    assert client.get(f"{START}0-0.png").status_code == 404
    for name in ("Ada", "  Ada ", "Ada\x1b\n"):
        response = client.post(START, data={"name": name})
        assert response.status_code == 409
        assert "Someone answers under this name" in response.text
        assert place.strip("/") not in response.text
    client.post(START, data=FIRST)
    assert file.answers() == []
    assert place.strip("/").encode() not in (tmp_path / "j.sqlite").read_bytes(), "who reads the file cannot answer"


def test_a_name_may_be_anything_and_changes_nothing_else(client: TestClient, tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "'; DROP TABLE judges; --", "\x1b[31mred\x00", "\u202eevil", "é" * 200]
    for name in names:
        assert client.post(START, data={"name": name}).status_code == 303
    with sqlite3.connect(tmp_path / "j.sqlite") as opened:
        found = [name for (name,) in opened.execute("SELECT name FROM judges ORDER BY number")]
    opened.close()
    assert found == [*names[:2], "[31mred", "evil", "é" * 80], "what moves a terminal's cursor is left out"


def test_two_browsers_of_one_judge_answer_each_question_once(
    started: tuple[Judgements, PngImages], file: Judgements
) -> None:
    place = _enrolled(file)
    one, two = (TestClient(application(*started, TOKEN), base_url=HERE) for _ in range(2))
    assert one.get(place).text == two.get(place).text
    assert "Question 2 of" in one.post(place, data=FIRST).text
    assert "Question 2 of" in two.post(place, data={"question": "0", "answer": "second"}).text
    assert [answer.answer for answer in file.answers()] == ["first"]


# Odd addresses and bodies -----------------------------------------------------------------------------------------

ODD = ["9" * 30, "9" * 5000, "-1", "..%2f..%2fapp.py", "%2e%2e", "..%5c..%5capp.py", "0-0.png%00", "store.py",
       "0-%D9%A1.png", "0-0.PNG", "00-0.png", "0-" + "9" * 5000 + ".png", "%ff", "%ed%a0%80"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:12])
def test_a_huge_or_odd_id_is_not_found(client: TestClient, file: Judgements, odd: str) -> None:
    """A judge's number of 30 digits was an OverflowError, one of 5,000 digits a ValueError: status 500."""
    place = _enrolled(file)
    for address in (f"/{odd}/", f"/judge/{odd}", f"/{odd}/0-0.png", place + odd, START + odd):
        assert client.get(address).status_code == 404, address[:40]
    assert client.post(f"/{odd}/", data=FIRST).status_code == 404
    question = client.post(place, data={"question": odd, "answer": "first"})
    assert question.status_code == 303
    assert file.answers() == []


def _exchange(address: str, sent: bytes) -> bytes:
    """What a server answers until it closes the connection; an error where it never does."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        got = b""
        while part := connection.recv(65_536):
            got += part
    return got


def test_a_body_over_the_limit_closes_the_connection(started: tuple[Judgements, PngImages], file: Judgements) -> None:
    """However its length is said, and before it is read: the server went on to read what was not wanted."""
    place, chunk = _enrolled(file), b"%x\r\n%s\r\n" % (BODY + 1, b"x" * (BODY + 1))
    bodies = [b"Content-Length: %d\r\n\r\n" % 10**9, b"Content-Length: %d\r\n\r\n" % (BODY + 1),
              b"Content-Length: %s\r\n\r\n" % (b"9" * 19), b"Transfer-Encoding: chunked\r\n\r\n" + chunk]  # fmt: skip
    with serving(application(*started, TOKEN)) as address:
        for path in (place, START, "/nobody/"):
            for body in bodies:
                got = _exchange(address, f"POST {path} HTTP/1.1\r\nHost: {address}\r\n".encode() + body)
                assert got.startswith(b"HTTP/1.1 413 "), body[:40]
                assert b"connection: close" in got.lower()
        for body in (bodies[1], b"Transfer-Encoding: chunked\r\n\r\n"):
            got = _exchange(address, f"GET {place} HTTP/1.1\r\nHost: {address}\r\n".encode() + body)
            assert got.startswith(b"HTTP/1.1 413 "), "no page takes a body with GET"
        hosts = f"Host: {address}\r\nHost: {address}\r\n"
        for head in (f"GET {START} HTTP/1.0\r\n", f"GET {START} HTTP/1.1\r\n{hosts}", f"GET {START} HTTP/1.1\r\n"):
            assert b" 400 " in _exchange(address, f"{head}\r\n".encode()).partition(b"\r\n")[0], head


def test_who_hangs_up_in_the_middle_of_a_form_leaves_no_traceback(
    started: tuple[Judgements, PngImages], file: Judgements, capsys: pytest.CaptureFixture[str]
) -> None:
    place = _enrolled(file)
    with serving(application(*started, TOKEN)) as address:
        host, _, port = address.partition(":")
        for _ in range(3):
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                head = f"POST {place} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n"
                connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
                assert connection.recv(100).startswith(b"HTTP/1.1 100"), "the server waits for the form"
                connection.sendall(b"question")
    assert capsys.readouterr() == ("", "")
    assert file.answers() == []


# Files ------------------------------------------------------------------------------------------------------------


def test_a_study_from_before_there_were_keys_goes_on(results: Path, tmp_path: Path) -> None:
    """Its answers count, and its judge goes on with the old name, once."""
    new, images = study([str(results / name) for name in RUNS], tmp_path / "new", "samples", (CHOICE,), 2, results)
    with sqlite3.connect(tmp_path / "new") as source, sqlite3.connect(tmp_path / "old") as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(TABLES)
        old.execute("INSERT INTO study VALUES (?, ?)", source.execute("SELECT * FROM study").fetchone())
        old.execute("INSERT INTO judges VALUES (0, 'Ada')")
        runs = new.study().runs
        old.execute(f"INSERT INTO answers VALUES (0, 0, 'choice', '{runs[0]}', '{runs[1]}', '[1, 2]', 'first', '')")
    source.close()
    old.close()
    assert read_scores(tmp_path / "old").keys() == set(runs), "it is read without being changed"
    file, images = study([], tmp_path / "old", "samples", (CHOICE,), 2, results)
    client = TestClient(application(file, images, TOKEN), base_url=HERE)
    assert "Question 2 of" in client.post(START, data={"name": "Ada"}).text
    assert client.post(START, data={"name": "Ada"}).status_code == 409
    assert "Question 1 of" in client.post(START, data={"name": "Bob"}).text
    assert len(file.answers()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"], "a copy of the file misses nothing"


def _limited(*command: object) -> subprocess.CompletedProcess[str]:
    """Runs Python without the right of root to write where it is forbidden."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"] if os.geteuid() == 0 else []
    return subprocess.run([*drop, sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120)


def test_judge_on_a_read_only_folder_is_refused_in_one_sentence_and_a_study_there_is_read(
    results: Path, tmp_path: Path
) -> None:
    shut = tmp_path / "shut"
    shut.mkdir()
    runs = [str(results / name) for name in RUNS]
    study(runs, shut / "old", "samples", (CHOICE,), 2, results)
    (shut / "old").chmod(0o444)
    shut.chmod(0o555)
    for place in (shut / "new", shut / "folder" / "new", shut / "old", tmp_path):
        names = [] if place.name == "old" else runs
        ran = _limited("-m", "vaebench", "judge", *names, f"--judgements={place}", f"--results={results}", "--port=0")
        assert ran.returncode == 2, ran.stderr
        assert ran.stdout == ""
        assert "judgements" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert len(ran.stderr.strip().splitlines()) == 1
    read = "import sys; from pathlib import Path; from vaebench.judging.scores import read_scores as read; "
    read += "print(len(read(Path(sys.argv[1]))))"
    ran = _limited("-c", read, shut / "old")
    assert (ran.stdout.strip(), ran.stderr) == ("3", "")


def test_a_judge_is_told_that_an_answer_was_not_saved(
    client: TestClient, file: Judgements, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk was status 500 for the judge, and a traceback for who had started the page."""
    place = _enrolled(file)
    with sqlite3.connect(tmp_path / "j.sqlite") as opened:
        opened.execute("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT raise(FAIL, 'disk is full'); END")
    opened.close()
    response = client.post(place, data=FIRST)
    assert response.status_code == 503
    assert "could not be saved" in response.text
    (line,) = capsys.readouterr().err.splitlines()
    assert "disk is full" in line
    assert client.get(place).status_code == 200, "the page goes on"


HOSTILE = [
    "UPDATE study SET study = 'no JSON'",
    "UPDATE study SET study = '[]'",
    "UPDATE study SET study = json_set(study, '$.rounds', 'two')",
    "UPDATE study SET study = json_set(study, '$.images', 0)",
    "UPDATE study SET study = json_set(study, '$.images', 1e3)",
    "UPDATE study SET study = json_set(study, '$.images', 1000)",
    "UPDATE study SET study = json_set(study, '$.kinds', json('[\"real\"]'))",
    "UPDATE study SET study = json_set(study, '$.kinds', json('[[1]]'))",
    "UPDATE study SET study = json_set(study, '$.kinds', json('[\"a\"]'))",
    "UPDATE study SET study = json_set(study, '$.shown', '../../etc')",
    "UPDATE study SET study = json_set(study, '$.more', 1)",
    "UPDATE study SET schema = 99",
    "DELETE FROM study",
    "DROP TABLE study",
    "DROP TABLE answers",
    "INSERT INTO answers VALUES (0, 0, 'rating', 'x', NULL, '[]', 'five', '')",
    "INSERT INTO answers VALUES (0, 0, 'choice', 'nobody', 'x', '[]', 'first', '')",
]


@pytest.mark.parametrize("change", HOSTILE)
def test_a_strangers_study_that_cannot_be_is_refused_in_one_sentence(
    file: Judgements, results: Path, change: str
) -> None:
    path = file.path
    with sqlite3.connect(path) as opened:
        opened.execute(change)
    opened.close()

    def used() -> None:
        read_scores(path)
        study([], path, "samples", (CHOICE,), 2, results)

    with pytest.raises(UserError, match=re.escape(str(path))):
        used()


def test_a_strangers_picture_that_is_none_is_refused_in_one_sentence(results: Path) -> None:
    records = read_records(results)
    picture = records[0].pictures()["samples"]
    whole = picture.read_bytes()
    try:
        for content in (
            b"",
            b"no picture",
            whole[:200],
            whole[: len(whole) // 2],
            whole[:16] + b"\x7f" * 8 + whole[24:],
        ):
            picture.write_bytes(content)
            with pytest.raises(UserError, match="cannot be read"):
                PngImages(records, "samples", (CHOICE,))
    finally:
        picture.write_bytes(whole)
