"""`vaebench submit` and `vaebench referee`: what is prepared, what is measured again, and how a forged card ends."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_records import write_fake

from vaebench.cli import commands, main, parser
from vaebench.leaderboard import boards
from vaebench.publishing.referee import MEANS
from vaebench.records import RECORD, canonical, read_records
from vaebench.records.claims import claimed
from vaebench.records.content import digest_of, rendered

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "board.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was trained and measured, with its checkpoint."""
    tmp_path = tmp_path_factory.mktemp("source")
    fit = ["fit", "--data=digits", "--model=vae", "--model.latent=2", "--trainer.max_steps=5", f"--out={tmp_path}/runs"]
    assert main([*fit, "--trainer.accelerator=cpu"]) == 0
    (checkpoint,) = tmp_path.glob("runs/*/model.ckpt")
    evaluate = ["evaluate", str(checkpoint), "--protocol=quick", "--limit=20", "--k=5", "--device=cpu"]
    assert main([*evaluate, f"--results={tmp_path}/results"]) == 0
    place = next((tmp_path / "results").rglob(RECORD)).parent
    if not (place / "model.ckpt").exists():
        shutil.copy(checkpoint, place)
    return place


def _card(source: Path, out: Path, change: Callable[[dict[str, Any]], Any] | None = None, weights: bool = True) -> Path:
    """A card, of a record that was changed and signed anew by who forges it."""
    place = Path(shutil.copytree(source, out.with_name(f"{out.name}-run")))
    if change is not None:
        body = json.loads((place / RECORD).read_bytes())
        change(body)
        (place / RECORD).write_bytes(rendered({**body, "digest": digest_of(body)}))
    assert main(["export", str(place), f"--out={out}", *(["--checkpoint"] if weights else [])]) == 0
    return out


def _boast(body: dict[str, Any]) -> None:
    body["metrics"]["elbo"]["value"] += 5.0


def test_the_files_of_a_request_are_those_of_the_card(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = _card(source, tmp_path / "card")
    assert main(["submit", str(card), f"--out={tmp_path}/submission"]) == 0
    said = capsys.readouterr().out
    (place,) = (tmp_path / "submission" / "submissions").iterdir()
    for path in card.iterdir():
        assert (place / path.name).read_bytes() == path.read_bytes()
    assert len(list(place.iterdir())) == len(list(card.iterdir()))
    request = (tmp_path / "submission" / "request.md").read_text("utf-8")
    assert f"submissions/{place.name}" in request
    for sentence in (
        "metrics is measured again from these weights on 20 images with K = 5",
        "How the weights were trained",
    ):
        assert sentence in said
        assert sentence in request
    assert str(tmp_path) not in request
    assert main(["submit", str(card), f"--out={tmp_path}/submission"]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_a_card_without_weights_is_told_that_it_stays_a_claim(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", str(_card(source, tmp_path / "card", weights=False)), f"--out={tmp_path}/submission"]) == 0
    assert "It has no model.ckpt, so that nothing is measured again" in capsys.readouterr().out


def test_what_does_not_belong_to_a_card_is_not_submitted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = _card(source, tmp_path / "card")
    (card / "index.html").write_text("<script>alert(1)</script>")
    assert main(["submit", str(card), f"--out={tmp_path}/submission"]) == 2
    assert "holds 'index.html', which is no file of the card" in capsys.readouterr().err
    assert not (tmp_path / "submission").exists()


def test_a_request_shows_the_names_of_a_card_as_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>[a](javascript:alert(1))`x`"
    record = write_fake(tmp_path / "run", np.random.default_rng(1), variant=evil)
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    assert main(["submit", f"{tmp_path}/card", f"--out={tmp_path}/submission"]) == 0
    request = (tmp_path / "submission" / "request.md").read_text("utf-8")
    assert "<script" not in request.replace("\\<script", "")
    assert "](" not in request.replace("\\](", "")
    (place,) = (tmp_path / "submission" / "submissions").iterdir()
    assert re.fullmatch(r"[A-Za-z0-9_=+-]+", place.name)


def test_an_honest_card_ranks_and_a_forged_one_does_not(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = _card(source, tmp_path / "honest")
    forged = _card(source, tmp_path / "forged", _boast)
    bare = _card(source, tmp_path / "bare", lambda body: body.update(variant="bare"), weights=False)
    tampered = _card(source, tmp_path / "tampered")
    (tampered / "card.md").write_text("better")
    judge = ["referee", *map(str, (honest, forged, bare, tampered)), f"--out={tmp_path}/out", "--device=cpu"]
    assert main([*judge, f"--results={tmp_path}/results", f"--report={tmp_path}/report.md"]) == 1
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text in capsys.readouterr().out
    rows = {cells[1]: cells[3:5] for line in text.splitlines()[2:6] if (cells := [c.strip() for c in line.split("|")])}
    assert rows["honest"] == ["verified", "equal"]
    assert rows["forged"][0] == "different"
    assert re.match(r"elbo is -[\d.]+ on the card and -[\d.]+ now$", rows["forged"][1])
    assert rows["bare"] == ["claim", "it has no model.ckpt"]
    assert rows["tampered"][0] == "refused"
    assert all(f"- {verdict}: {MEANS[verdict]}" in text for verdict in MEANS)
    taken = read_records(tmp_path / "results")
    assert {record.variant: claimed(record) for record in taken} == {"vae": False, "bare": True}
    (board,) = boards(taken)
    assert [row.claimed for row in board.rows] == [False, True]
    assert main([*judge[:2], *judge[-2:]]) == 0, "honest alone"


def test_weights_settings_and_data_of_another_run_are_refused(source: Path, tmp_path: Path) -> None:
    def other(body: dict[str, Any]) -> None:
        body["checkpoint"]["weights"] = "0" * 64

    cards = [
        _card(source, tmp_path / "weights", other),
        _card(source, tmp_path / "settings", lambda body: body.update(seed=7)),
        _card(source, tmp_path / "data", lambda body: body["data"]["hashes"].update(test="0" * 64)),
    ]
    for card in cards:
        report = tmp_path / f"{card.name}.md"
        assert main(["referee", str(card), f"--out={tmp_path}/out", f"--report={report}"]) == 1
        assert "| refused |" in report.read_text("utf-8")


def test_a_figure_of_a_former_definition_is_not_verified_by_the_others(source: Path, tmp_path: Path) -> None:
    """Its version said that it need not be compared, and the whole card ranked as verified."""

    def former(body: dict[str, Any]) -> None:
        versions = [name for name, metric in body["metrics"].items() if metric.get("version", 1) > 1]
        assert versions, "the quick protocol has metrics whose definition was changed"
        for name in versions:
            body["metrics"][name]["version"] = 1
            body["metrics"][name]["value"] = 99.0

    card = _card(source, tmp_path / "card", former)
    assert main(["referee", str(card), f"--out={tmp_path}/out", f"--results={tmp_path}/results"]) == 0
    assert all(
        claimed(record) for record in (read_records(tmp_path / "results") if (tmp_path / "results").is_dir() else ())
    )


def test_no_line_of_the_log_is_a_strangers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hosts read commands from lines of a log that begin with `::`."""
    record = write_fake(tmp_path / "run", np.random.default_rng(1), variant="::add-mask::x")
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    assert main(["referee", f"{tmp_path}/card", f"{tmp_path}/::set-env::", f"--out={tmp_path}/out"]) == 1
    out = capsys.readouterr()
    for line in (out.out + out.err).splitlines():
        assert not line.strip().startswith("::"), line


def test_a_record_whose_first_digits_are_anothers_is_not_taken_for_it(tmp_path: Path) -> None:
    """Eight digits of a digest named a folder, and whoever tried long enough had another's, which was then verified."""
    first = write_fake(tmp_path / "a", np.random.default_rng(1), mean=9.0)
    assert main(["export", str(first.path), f"--out={tmp_path}/first"]) == 0
    assert main(["import", f"{tmp_path}/first", f"--results={tmp_path}/results"]) == 0
    (place,) = (tmp_path / "results" / "imported").iterdir()
    second = write_fake(tmp_path / "b", np.random.default_rng(2))
    assert main(["export", str(second.path), f"--out={tmp_path}/second"]) == 0
    place.rename(place.with_name(f"{second.variant}-s{second.seed}-{second.digest[:8]}"))
    assert main(["import", f"{tmp_path}/second", f"--results={tmp_path}/results"]) == 0
    assert {record.digest for record in read_records(tmp_path / "results")} == {first.digest, second.digest}


# Large and odd files ------------------------------------------------------------------------------------------------


def _signed(card: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    body = json.loads((card / "card.json").read_bytes())
    change(body)
    plain = {name: value for name, value in body.items() if name != "digest"}
    (card / "card.json").write_text(
        json.dumps({**plain, "digest": hashlib.sha256(canonical(plain)).hexdigest()}), "utf-8"
    )


@pytest.mark.parametrize("name", ["card.md", "per_image.npz", "samples.png", "model.ckpt", "record.json"])
def test_a_huge_file_is_refused_before_it_is_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write_fake(tmp_path / "run", np.random.default_rng(1))
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    with (tmp_path / "card" / name).open("ab") as file:
        file.truncate(2**40)  # of holes: reading it would take an hour
    _signed(tmp_path / "card", lambda body: body["files"].setdefault(name, "0" * 64))
    for command in (["import"], ["submit", f"--out={tmp_path}/submission"]):
        assert main([*command, f"{tmp_path}/card"]) == 2
        assert "has 1,099,511,627,776 bytes, where a card has at most" in capsys.readouterr().err
    assert main(["referee", f"{tmp_path}/card", f"--out={tmp_path}/out"]) == 1


def test_a_picture_that_is_none_or_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write_fake(tmp_path / "run", np.random.default_rng(1))
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    picture = tmp_path / "card" / "samples.png"
    whole = picture.read_bytes()
    bomb = whole[:16] + (2**16).to_bytes(4, "big") * 2 + whole[24:]
    for content in (b"<svg onload=alert(1)>", b"", bomb):
        picture.write_bytes(content)
        assert main(["import", f"{tmp_path}/card", f"--results={tmp_path}/results"]) == 2
        assert "is no PNG of at most" in capsys.readouterr().err


def test_a_card_of_a_million_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = write_fake(tmp_path / "run", np.random.default_rng(1))
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    _signed(tmp_path / "card", lambda body: body["files"].update({f"{i}.png": "0" * 64 for i in range(10_000)}))
    assert main(["submit", f"{tmp_path}/card", f"--out={tmp_path}/submission"]) == 2
    assert "files, where a card has at most 100" in capsys.readouterr().err


# The workflow ---------------------------------------------------------------------------------------------------------


def _steps(job: str) -> list[dict[str, Any]]:
    return WORKFLOW["jobs"][job]["steps"]


def test_a_request_is_judged_without_rights_and_by_code_that_it_did_not_bring() -> None:
    events = WORKFLOW[True]  # YAML 1.1 reads `on` so
    assert set(events) == {"pull_request", "push"}
    assert WORKFLOW["permissions"] == {}
    assert WORKFLOW["jobs"]["referee"]["permissions"] == {"contents": "read"}
    checkouts = [step["with"] for step in _steps("referee") if "checkout" in step.get("uses", "")]
    assert [one["persist-credentials"] for one in checkouts] == [False, False]
    installed = [step["run"] for step in _steps("referee") if "pip install" in step.get("run", "")]
    assert installed == ["python -m pip install -c base/constraints.txt ./base"]
    assert "${{" not in "".join(step.get("run", "") for job in WORKFLOW["jobs"] for step in _steps(job))


def test_every_command_of_the_workflow_exists() -> None:
    text = "\n".join(step.get("run", "") for job in WORKFLOW["jobs"] for step in _steps(job))
    called = re.findall(r"vaebench (\w+)((?: --\w+)?)", text)
    assert {name for name, _ in called} == {"referee", "site"}
    (known,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    for name, option in called:
        assert name in commands()
        assert not option or option.strip() in known[name]._option_string_actions


@pytest.mark.parametrize(("kind", "code"), [("honest", 0), ("forged", 1), ("removed", 1), ("nothing", 0)])
def test_the_workflow_judges_what_a_request_brings(kind: str, code: int, source: Path, tmp_path: Path) -> None:
    """Its own script, in a clone of a board where a request adds a card, or takes one of others away."""
    board = tmp_path / "board"
    (board / "submissions" / "theirs").mkdir(parents=True)
    (board / "submissions" / "theirs" / "card.json").write_text("{}")
    git = ["git", "-C", str(board), "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]

    def commit() -> str:
        subprocess.run([*git, "add", "--force", "--all"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=x"], check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    subprocess.run(["git", "init", "--quiet", str(board)], check=True)
    base = commit()
    if kind == "removed":
        shutil.rmtree(board / "submissions" / "theirs")
    elif kind != "nothing":
        card = _card(source, tmp_path / "card", _boast if kind == "forged" else None)
        assert main(["submit", str(card), f"--out={tmp_path}/submission"]) == 0
        shutil.copytree(tmp_path / "submission" / "submissions", board / "submissions", dirs_exist_ok=True)
    commit()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "vaebench"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m vaebench "$@"\n')
    command.chmod(0o755)
    (judge,) = (step for step in _steps("referee") if step.get("name") == "Judge")
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", judge["run"]], cwd=tmp_path / "work", capture_output=True, text=True,
        env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HEAD": str(board), "BASE": base,
             "SUMMARY": "report.md"},
    )  # fmt: skip
    assert (done.returncode != 0) == (code != 0), done.stderr
    if kind == "nothing":
        assert not done.stdout
    else:
        word = {"honest": "verified", "forged": "different", "removed": "refused"}[kind]
        assert f"| {word} |" in (tmp_path / "work" / "report.md").read_text("utf-8"), done.stdout + done.stderr
