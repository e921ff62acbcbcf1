"""The files of a record or card may be a stranger's: plain names only, no links, and no marks but one's own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_records import fake_arrays, fake_body, write_board, write_fake
from PIL import Image

from vaebench.cli import main
from vaebench.errors import UserError
from vaebench.files import is_plain, open_file
from vaebench.leaderboard import boards
from vaebench.leaderboard.page import page
from vaebench.loggers.transfer import _kept
from vaebench.records.claims import CARD, IMPORTED, VERIFIED, claimed, note, verified
from vaebench.records.content import digest_of, rendered
from vaebench.records.identities import canonical
from vaebench.records.reading import read_records
from vaebench.records.record import RECORD, RunRecord
from vaebench.records.writing import write_record
from vaebench.reproduction.repeat import _name

BAD = ["../../x.png", "/etc/hostname", "a/b.png", "a\\b.png", "..", ".", "", ".hidden.png", "x.png\0", "x.png\n",
       "~x.png", "NUL.png", "con", "COM1.png", "x.png.", RECORD, "Record.json", "model.ckpt", IMPORTED, VERIFIED,
       "Verified.JSON", CARD, "card.md", "evil.sh", "x.svg", "é.png", "x" * 300 + ".png"]  # fmt: skip


def _resigned(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A record that was changed by one who computes its digest again."""
    body = json.loads((folder / RECORD).read_bytes())
    change(body)
    body["digest"] = digest_of(body)
    (folder / RECORD).write_bytes(rendered(body))


def _listed(folder: Path, name: str, content: bytes) -> None:
    """A record that lists one more file."""
    _resigned(folder, lambda body: body["files"].update({name: hashlib.sha256(content).hexdigest()}))


def _fake(folder: Path, mean: float = 9.0) -> Path:
    return Path(write_fake(folder, np.random.default_rng(1), mean=mean).path or "")


def _carded(card: Path, names: dict[str, str]) -> None:
    """Renews a card's sums, of what is in it and of `names`."""
    body = json.loads((card / CARD).read_bytes())
    record = json.loads((card / RECORD).read_bytes())
    body["files"] = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in card.iterdir() if p.name != CARD
    } | names
    body |= {key: record[key] for key in ("id", "variant", "seed") if key in body}
    plain = {name: value for name, value in body.items() if name != "digest"}
    body["digest"] = hashlib.sha256(canonical(plain)).hexdigest()
    (card / CARD).write_text(json.dumps(body))


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_is_not_plain_is_no_file_of_a_record(name: str, tmp_path: Path) -> None:
    folder = _fake(tmp_path / "results" / "run")
    for place in (tmp_path / "results", tmp_path):
        (place / "x.png").write_bytes(b"outside")
    inside = folder / Path(name.replace("\0", "")).name
    if name and inside != folder and len(inside.name) < 200 and not inside.exists():
        inside.write_bytes(b"outside")  # as the names were looked at before: by their last part
    _listed(folder, name, b"outside")
    records = read_records(tmp_path / "results")
    assert not records
    refusal = "among its files" if name.isprintable() else "cannot be printed"
    assert refusal in records.damaged[0].reason
    assert main(["export", str(folder), f"--out={tmp_path}/card"]) == 2
    assert not (tmp_path / "card").exists()


def test_a_card_writes_nothing_outside_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`../../x` in a record's files was checked by its last part and copied as it is, in import and in export."""
    _fake(tmp_path / "theirs" / "run")
    assert main(["export", f"{tmp_path}/theirs/run", f"--out={tmp_path}/card"]) == 0
    before = sorted(tmp_path.rglob("*"))
    for name in ("../../x", "../../x.png", str(tmp_path / "x.png"), "../first/verified.json"):
        (tmp_path / "card" / Path(name).name).write_bytes(b"outside")
        _listed(tmp_path / "card", name, b"outside")
        _carded(tmp_path / "card", {name: hashlib.sha256(b"outside").hexdigest()})
        assert main(["import", f"{tmp_path}/card", f"--results={tmp_path}/results"]) == 2
        assert "plain name" in capsys.readouterr().err
        (tmp_path / "card" / Path(name).name).unlink()
        _resigned(tmp_path / "card", lambda body: [body["files"].pop(n) for n in list(body["files"]) if "/" in n])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_card_does_not_verify_the_first(tmp_path: Path) -> None:
    """A card of −1.0 nats ranked first: another one carried its verified.json to where the first was imported."""
    _fake(tmp_path / "a" / "run", mean=17.0)
    assert main(["export", f"{tmp_path}/a/run", f"--out={tmp_path}/first"]) == 0
    assert main(["import", f"{tmp_path}/first", f"--results={tmp_path}/results"]) == 0
    (first,) = read_records(tmp_path / "results")
    assert claimed(first)
    note(read_records(tmp_path / "first")[0], VERIFIED, {"how": "verify", "class": "bit for bit"})
    mark = (tmp_path / "first" / VERIFIED).read_bytes()
    _fake(tmp_path / "b" / "run", mean=1.0)
    assert main(["export", f"{tmp_path}/b/run", f"--out={tmp_path}/second"]) == 0
    name = f"../{first.path.name}/{VERIFIED}"  # type: ignore[union-attr]
    (tmp_path / "second" / VERIFIED).write_bytes(mark)
    _listed(tmp_path / "second", name, mark)
    _carded(tmp_path / "second", {name: hashlib.sha256(mark).hexdigest()})
    assert main(["import", f"{tmp_path}/second", f"--results={tmp_path}/results"]) == 2
    assert [claimed(record) for record in read_records(tmp_path / "results")] == [True]


def test_a_card_does_not_verify_itself(tmp_path: Path) -> None:
    """Neither with a verified.json of its own, nor where it is put among the records as it is."""
    _fake(tmp_path / "a" / "run")
    assert main(["export", f"{tmp_path}/a/run", f"--out={tmp_path}/card"]) == 0
    note(read_records(tmp_path / "card")[0], VERIFIED, {"how": "verify", "class": "bit for bit"})
    _carded(tmp_path / "card", {})
    assert main(["import", f"{tmp_path}/card", f"--results={tmp_path}/results"]) == 0
    (own,) = read_records(tmp_path / "results")
    assert claimed(own)
    assert not (own.path / VERIFIED).exists()  # type: ignore[operator]
    shutil.copytree(tmp_path / "card", tmp_path / "here" / "card")
    (left,) = read_records(tmp_path / "here")
    assert claimed(left)
    assert verified(left) is None
    (board,) = boards(read_records(tmp_path / "here"))
    assert board.rows[0].rank is None


def test_a_mark_of_another_record_or_behind_a_link_verifies_nothing(tmp_path: Path) -> None:
    first, second = (write_fake(tmp_path / name, np.random.default_rng(i)) for i, name in enumerate("ab"))
    note(second, IMPORTED, {"card": "x"})
    note(first, VERIFIED, {"how": "verify", "class": "bit for bit"})
    assert verified(first)
    shutil.copyfile(tmp_path / "a" / VERIFIED, tmp_path / "b" / VERIFIED)
    assert claimed(second)
    note(second, VERIFIED, {"how": "verify", "class": "bit for bit"})
    assert not claimed(second)
    (tmp_path / "b" / VERIFIED).rename(tmp_path / "elsewhere.json")
    (tmp_path / "b" / VERIFIED).symlink_to(tmp_path / "elsewhere.json")
    assert claimed(second)
    (tmp_path / "b" / IMPORTED).unlink()
    (tmp_path / "b" / IMPORTED).symlink_to(tmp_path / "nowhere")
    assert claimed(second), "a link that leads nowhere is there all the same"


def test_no_local_picture_gets_into_the_published_page(tmp_path: Path) -> None:
    """An absolute path, or a link, among a record's pictures put any file of this machine into the page."""
    private = tmp_path / "private.png"
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(private)
    content = private.read_bytes()
    records = write_board(tmp_path / "results", {"vae": 0.0, "iwae": 1.0}, seeds=1)
    first, second = (Path(record.path or "") for record in records)
    _listed(first, str(private), content)
    _listed(second, "linked.png", content)
    (second / "linked.png").symlink_to(private)
    write_fake(tmp_path / "results" / "third", np.random.default_rng(3))
    read = read_records(tmp_path / "results")
    assert len(read) == 1
    assert any("it is a link" in damage.reason for damage in read.damaged)
    assert base64.b64encode(content).decode() not in page(boards(read), read)
    sound = RunRecord(**{**vars(read[0]), "files": {**read[0].files, "linked.png": ""}, "path": second})
    with pytest.raises(OSError, match="link"):
        sound.open("linked.png")


@pytest.mark.parametrize("what", ["link", "hard", "pipe", "folder"])
def test_only_an_ordinary_file_is_opened(what: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"text")
    folder = tmp_path / "run"
    folder.mkdir()
    make: dict[str, Callable[[Path], Any]] = {
        "link": lambda path: path.symlink_to(tmp_path / "out"),
        "hard": lambda path: path.write_bytes(b"text"),
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
    }
    make[what](folder / "x.png")
    if what == "hard":
        with open_file(folder, "x.png") as file:
            assert file.read() == b"text"
        return
    with pytest.raises(OSError, match=r"link|ordinary"):
        open_file(folder, "x.png")


@pytest.mark.parametrize("name", [n for n in BAD if "." not in n or not n.isascii() or not n[0].isalnum() or "/" in n])
def test_open_file_takes_plain_names_alone(name: str, tmp_path: Path) -> None:
    assert not is_plain(name)
    with pytest.raises(OSError, match="plain name"):
        open_file(tmp_path, name)


def test_a_pulled_run_brings_the_files_of_its_record_alone(tmp_path: Path) -> None:
    folder = _fake(tmp_path / "fetched")
    note(read_records(folder)[0], VERIFIED, {"how": "verify", "class": "bit for bit"})
    (folder / "model.ckpt").symlink_to("/etc/hostname")
    assert "is a link" in _kept("run", folder, tmp_path / "results", {}, "me/vaes/1").reason
    (folder / "model.ckpt").unlink()
    pulled = _kept("run", folder, tmp_path / "results", {}, "me/vaes/1")
    assert pulled.directory
    assert claimed(read_records(pulled.directory)[0])
    assert not (pulled.directory / VERIFIED).exists()


def test_names_in_a_record_lead_no_command_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is printable, and a family is part of the folder that `verify` and `reproduce` write to."""
    record = write_fake(tmp_path / "named", np.random.default_rng(0), family="../../x/y")
    assert _name(record, "verified", None).startswith("verified-_x_y-s0-")
    for field, value in (("family", "\x1b[2J"), ("variant", "\x1b[2Jvae"), ("benchmark", "a\nb"), ("id", "\0")):
        folder = _fake(tmp_path / f"{len(list(tmp_path.iterdir()))}")
        _resigned(folder, lambda body, field=field, value=value: body.update({field: value}))
        for command in ("verify", "reproduce"):
            assert main([command, str(folder), f"--out={tmp_path}/out"]) == 2
            assert field in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_figures_that_unpack_to_more_than_they_should_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_fake(tmp_path / "run", np.random.default_rng(0))
    monkeypatch.setattr("vaebench.records.arrays.LARGEST", 100)
    with pytest.raises(UserError, match=r"unpacks to \d"):
        record.per_image()
    (tmp_path / "run" / "per_image.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="cannot be read"):
        record.per_image()


def test_arrays_that_do_not_unpack_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """zlib's own error is neither an OSError nor a BadZipFile: a packed per_image.npz could stop a whole folder."""
    folder = _fake(tmp_path / "results" / "run")
    with np.load(folder / "per_image.npz") as arrays:
        np.savez_compressed(folder / "per_image.npz", **dict(arrays))
    content = bytearray((folder / "per_image.npz").read_bytes())
    start = 30 + content[26] + content[28]  # of the first member's data
    content[start] = 0b111  # a block of a type that does not exist
    (folder / "per_image.npz").write_bytes(content)
    checksum = hashlib.sha256(content).hexdigest()
    _resigned(folder, lambda body: body["files"].update({"per_image.npz": checksum}))
    assert main(["leaderboard", str(tmp_path / "results")]) in (0, 2)
    assert "holds no arrays" in "".join(capsys.readouterr())


def test_a_picture_without_colours_is_stored_in_one_channel_and_read_in_three(tmp_path: Path) -> None:
    """Grey pictures of three equal channels were a third of what the records of this suite take."""
    rng = np.random.default_rng(0)
    grey, coloured = np.repeat(rng.integers(0, 256, (8, 6, 1), "uint8"), 3, 2), rng.integers(0, 256, (8, 6, 3), "uint8")
    arrays = fake_arrays(rng)
    record = write_record(tmp_path / "run", fake_body(arrays), arrays, {"grey": grey, "coloured": coloured})
    for name, mode in {"grey": "L", "coloured": "RGB"}.items():
        with Image.open(record.pictures()[name]) as picture:
            assert picture.mode == mode
    assert np.array_equal(record.pixels("grey"), grey)
    assert np.array_equal(record.pixels("coloured"), coloured)
