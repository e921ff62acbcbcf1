"""Cards: what one exports and another imports, and what an imported record is worth."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_records import fake_arrays, fake_body, fake_pictures, write_board, write_fake

from vaebench.cli import main
from vaebench.leaderboard import boards, leaderboard
from vaebench.leaderboard.pareto import rate_distortion_front
from vaebench.leaderboard.table import table
from vaebench.records import RECORD, RunRecord, canonical, read_records, write_record
from vaebench.records.claims import IMPORTED, VERIFIED, claimed, imported, note, verified

ROOT = Path(__file__).parents[2]


def _card(tmp_path: Path, **changes: Any) -> tuple[RunRecord, Path]:
    """A record of somebody else's, and its card."""
    record = write_fake(tmp_path / "theirs" / "run", np.random.default_rng(1), mean=9.0, **changes)
    assert main(["export", str(record.path), f"--out={tmp_path}/card"]) == 0
    return record, tmp_path / "card"


def _import(tmp_path: Path, results: str = "results") -> RunRecord:
    assert main(["import", f"{tmp_path}/card", f"--results={tmp_path}/{results}"]) == 0
    (record,) = [r for r in read_records(tmp_path / results) if imported(r)]
    return record


def test_a_card_goes_round_and_says_what_the_record_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, card = _card(tmp_path, variant="β = 2, ../x|y")
    text = (card / "card.md").read_text()
    body = json.loads((card / "card.json").read_bytes())
    assert f"`{(record.checkpoint or {})['weights']}`" in text
    assert f"| elbo | {record.value('elbo'):.6g} |" in text
    assert "| ssim | unavailable: images are smaller than the window |" in text
    assert body["weights"] == (record.checkpoint or {})["weights"]
    assert body["metrics"]["elbo"]["value"] == record.value("elbo")
    assert str(tmp_path) not in text + json.dumps(body)
    own = _import(tmp_path)
    assert own == record, "the record is the same bytes"
    assert own.path is not None
    assert own.path.parent == tmp_path / "results" / "imported"
    assert (own.path / RECORD).read_bytes() == (Path(record.path or "") / RECORD).read_bytes()
    np.testing.assert_array_equal(own.per_image()["elbo"], record.per_image()["elbo"])
    capsys.readouterr()
    assert _import(tmp_path) == own
    assert "imported before" in capsys.readouterr().out
    assert main(["import", str(card / "card.json"), f"--results={tmp_path}/other"]) == 0


def test_a_card_carries_the_checkpoint_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = fake_arrays(np.random.default_rng(0))
    (tmp_path / "w.ckpt").write_bytes(b"weights")
    write_record(
        tmp_path / "run", fake_body(arrays), arrays, fake_pictures(np.random.default_rng(0)), tmp_path / "w.ckpt"
    )
    assert main(["export", f"{tmp_path}/run", f"--out={tmp_path}/card", "--checkpoint"]) == 0
    assert (Path(_import(tmp_path).path or "") / "model.ckpt").read_bytes() == b"weights"
    (tmp_path / "run" / "model.ckpt").unlink()
    assert main(["export", f"{tmp_path}/run", f"--out={tmp_path}/more", "--checkpoint"]) == 2
    assert "has no model.ckpt" in capsys.readouterr().err
    assert main(["export", f"{tmp_path}/run", f"--out={tmp_path}/card"]) == 2
    assert "a card is never overwritten" in capsys.readouterr().err


def _signed(body: dict[str, Any]) -> bytes:
    plain = {name: value for name, value in body.items() if name != "digest"}
    return json.dumps({**plain, "digest": hashlib.sha256(canonical(plain)).hexdigest()}).encode()


def test_a_card_that_was_tampered_with_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, whole = _card(tmp_path)

    def refused(change: Callable[[Path], Any]) -> str:
        card = Path(shutil.copytree(whole, tmp_path / "changed"))
        change(card)
        assert main(["import", str(card), f"--results={tmp_path}/results"]) == 2
        assert not list(tmp_path.glob("results/**/*.json"))
        shutil.rmtree(card)
        return capsys.readouterr().err

    def edited(name: str, old: str, new: str) -> Callable[[Path], Any]:
        def edit(card: Path) -> None:
            text = (card / name).read_text("utf-8")
            assert old in text
            (card / name).write_text(text.replace(old, new, 1), "utf-8")

        return edit

    def resigned(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
        def sign(card: Path) -> None:
            body = json.loads((card / "card.json").read_bytes())
            change(body)
            (card / "card.json").write_bytes(_signed(body))

        return sign

    def flipped(card: Path) -> None:
        raw = bytearray((card / "per_image.npz").read_bytes())
        raw[len(raw) // 2] ^= 1
        (card / "per_image.npz").write_bytes(raw)

    assert "card.json' is not what was exported: its digest does not match" in refused(
        edited("card.json", '"seed": 0', '"seed": 1')
    )
    assert "card.md' is not what was exported" in refused(edited("card.md", "elbo", "ELBO"))
    assert "record.json' is not what was exported" in refused(edited(RECORD, '"seed": 0', '"seed": 1'))
    assert "per_image.npz' is not what was exported" in refused(flipped)
    assert "samples.png' is not what was exported" in refused(lambda card: (card / "samples.png").unlink())
    better = refused(resigned(lambda body: body["metrics"]["elbo"].update(value=0.0)))
    assert "says other things than the record beside it" in better
    assert "card of schema 9, not 1" in refused(resigned(lambda body: body.update(card=9)))
    assert "is not a card" in refused(lambda card: (card / "card.json").write_text("[]"))
    assert "is not a card" in refused(lambda card: shutil.rmtree(card) or card.mkdir())

    def forged(card: Path) -> None:
        edited(RECORD, '"seed": 0', '"seed": 1')(card)
        checksum = hashlib.sha256((card / RECORD).read_bytes()).hexdigest()
        resigned(lambda body: body["files"].update({RECORD: checksum}))(card)

    assert "holds no sound record" in refused(forged)


def test_a_file_that_the_record_does_not_know_is_not_taken(tmp_path: Path) -> None:
    _, card = _card(tmp_path)
    (card / "extra.sh").write_text("true")
    body = json.loads((card / "card.json").read_bytes())
    body["files"]["extra.sh"] = hashlib.sha256(b"true").hexdigest()
    (card / "card.json").write_bytes(_signed(body))
    assert not (Path(_import(tmp_path).path or "") / "extra.sh").exists()


def test_what_was_measured_here_is_not_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, card = _card(tmp_path)
    assert main(["import", str(card), f"--results={tmp_path}/theirs"]) == 2
    assert "nothing to import" in capsys.readouterr().err
    assert len(read_records(tmp_path / "theirs")) == 1


# Standing ---------------------------------------------------------------------------------------------------------


def test_a_claim_is_shown_apart_and_has_no_rank_and_no_part_in_others(tmp_path: Path) -> None:
    write_board(tmp_path / "results", {"good": 2.0, "poor": 0.0})
    (before,) = boards(read_records(tmp_path / "results"))
    _card(tmp_path, variant="good", seed=0)
    assert claimed(_import(tmp_path))
    (board,) = boards(read_records(tmp_path / "results"))
    assert board.rows[:-1] == before.rows, "nine nats better, and nothing moves"
    last = board.rows[-1]
    assert (last.variant, last.claimed, last.rank, last.gap) == ("good (claimed)", True, None, None)
    sheet = table(board)
    assert [cells[0].text for cells in sheet.cells] == ["1", "2", "claimed"]
    assert "has no rank until" in sheet.notes[sheet.cells[-1][0].notes[0] - 1]
    page = tmp_path / "page.html"
    markdown = leaderboard(tmp_path / "results", page)
    for text in (markdown, page.read_text("utf-8")):
        assert "good (claimed)" in text
        assert "came on a card" in text


def test_a_claim_takes_nobody_off_the_front_of_rate_and_distortion(tmp_path: Path) -> None:
    """Rows of claims were on the front, where a claim of 0 nats beat all that was measured."""
    write_board(tmp_path / "results", {"good": 2.0, "poor": 0.0})
    (before,) = boards(read_records(tmp_path / "results"))
    arrays = fake_arrays(np.random.default_rng(1))
    none = {name: np.full_like(array, 1e-6) for name, array in arrays.items() if name in ("rate", "distortion")}
    body = fake_body({**arrays, **none}, variant="boast")
    write_record(tmp_path / "theirs" / "run", body, {**arrays, **none}, fake_pictures(np.random.default_rng(0)))
    assert main(["export", f"{tmp_path}/theirs/run", f"--out={tmp_path}/card"]) == 0
    _import(tmp_path)
    (after,) = boards(read_records(tmp_path / "results"))
    assert after.rows[-1].variant == "boast (claimed)"
    assert rate_distortion_front(after) == rate_distortion_front(before) != frozenset()


def test_a_board_of_claims_alone_ranks_nobody(tmp_path: Path) -> None:
    _card(tmp_path)
    _import(tmp_path)
    (board,) = boards(read_records(tmp_path / "results"))
    assert [(row.variant, row.rank, row.claimed) for row in board.rows] == [("vae (claimed)", None, True)]
    assert board.score == "log_likelihood"
    assert "vae (claimed)" in leaderboard(tmp_path / "results")


def test_a_note_of_another_record_or_a_damaged_one_verifies_nothing(tmp_path: Path) -> None:
    _card(tmp_path)
    record = _import(tmp_path)
    path = Path(record.path or "") / VERIFIED
    note(record, VERIFIED, {"how": "verify", "class": "equal"})
    assert (verified(record) or {})["how"] == "verify"
    assert not claimed(record)
    sound = path.read_bytes()
    for harm in (b"", b"[]", b"{", sound.replace(b'"equal"', b'"loose"'), sound.replace(b'"record"', b'"recrod"')):
        path.write_bytes(harm)
        assert claimed(record)
    other = write_fake(tmp_path / "other", np.random.default_rng(5))
    note(other, VERIFIED, {"how": "verify", "class": "equal"})
    shutil.copy(tmp_path / "other" / VERIFIED, path)
    assert claimed(record)
    (Path(record.path or "") / IMPORTED).write_bytes(b"")
    assert claimed(record), "a damaged note is no way to a rank"
    assert not claimed(other)


def test_a_claim_ranks_after_verify_and_not_after_a_verify_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", f"--config={ROOT}/configs/family/vae.yaml", "--data=digits", "--model.latent=3"]
    assert main([*fit, "--trainer.max_epochs=2", "--trainer.accelerator=cpu", f"--out={tmp_path}/runs"]) == 0
    checkpoint = next((tmp_path / "runs").glob("*/model.ckpt"))
    evaluate = ["evaluate", str(checkpoint), "--protocol=quick", "--limit=50", "--device=cpu"]
    assert main([*evaluate, f"--results={tmp_path}/theirs"]) == 0
    source = next((tmp_path / "theirs").rglob(RECORD)).parent
    honest = (source / RECORD).read_bytes()

    def taken(change: Callable[[dict[str, Any]], Any], results: str) -> Path:
        body = json.loads(honest)
        change(body)
        plain = {name: value for name, value in body.items() if name != "digest"}
        body["digest"] = hashlib.sha256(canonical(plain)).hexdigest()
        (source / RECORD).write_text(json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False) + "\n", "utf-8")
        shutil.rmtree(tmp_path / "card", ignore_errors=True)
        assert main(["export", str(source), f"--out={tmp_path}/card"]) == 0
        return Path(_import(tmp_path, results).path or "")

    def claimed(results: str) -> list[bool]:
        (board,) = boards(read_records(tmp_path / results))
        return [row.claimed for row in board.rows]

    def verify(place: Path) -> int:
        return main(["verify", str(place), f"--checkpoint={checkpoint}", "--device=cpu", f"--out={tmp_path}/out"])

    boasted = taken(
        lambda body: body["metrics"]["elbo"].update(value=body["metrics"]["elbo"]["value"] + 0.1), "boasted"
    )
    assert verify(boasted) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "different: elbo"
    assert claimed("boasted") == [True]
    place = taken(dict, "results")
    assert claimed("results") == [True]
    assert verify(place) == 0
    assert claimed("results") == [False]
    assert (verified(read_records(place)[0]) or {})["class"] == "equal"
    assert "was verified here" in leaderboard(tmp_path / "results")
