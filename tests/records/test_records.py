"""Laws of run records: written once and whole, checked at every reading, the same bytes for the same run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fake_records import IMAGES, fake_arrays, fake_body, fake_pictures, write_fake
from PIL import Image

from vaebench.errors import UserError
from vaebench.files import PARTIAL, whole_folder
from vaebench.records import CHECKPOINT, PER_IMAGE, RECORD, canonical, identity, read_records, stable
from vaebench.records import write_record as write


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_record_is_read_as_it_was_written(tmp_path, rng):
    arrays, pictures = fake_arrays(rng), fake_pictures(rng)
    written = write(tmp_path / "a" / "run", fake_body(arrays), arrays, pictures)
    (read,) = read_records(tmp_path)
    assert read == written
    assert read.path == tmp_path / "a" / "run"
    assert read_records(tmp_path).damaged == ()
    assert {name: getattr(read, name) for name in fake_body(arrays)} == fake_body(arrays)
    figures = read.per_image()
    assert figures.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(figures[name], array.astype(np.float32))
    for name, path in read.pictures().items():
        np.testing.assert_array_equal(np.asarray(Image.open(path)), pictures[name])


def test_metrics_are_read_by_name_with_their_errors_and_reasons(tmp_path, rng):
    record = write_fake(tmp_path / "run", rng)
    figures = record.per_image()["log_likelihood"].astype(np.float64)
    assert record.value("log_likelihood") == pytest.approx(figures.mean())
    assert record.error("log_likelihood") == pytest.approx(figures.std(ddof=1) / len(figures) ** 0.5)
    assert (record.value("ssim"), record.error("ssim")) == (None, None)
    assert record.reason("ssim") == "images are smaller than the window"
    assert record.reason("fid") == "not measured"


def test_checksums_and_digest_are_those_of_the_files(tmp_path, rng):
    record = write_fake(tmp_path / "run", rng)
    assert record.files.keys() == {PER_IMAGE, "reconstructions.png", "samples.png"}
    for name, checksum in record.files.items():
        assert hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() == checksum
    body = json.loads((tmp_path / "run" / RECORD).read_bytes())
    digest = body.pop("digest")
    spelt = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(spelt.encode()).hexdigest() == digest


def test_the_same_run_gives_the_same_bytes_but_for_times(tmp_path):
    def record(name: str, started: str):
        generator = np.random.default_rng(1)
        return write_fake(tmp_path / name, generator, times={"started": started, "train_seconds": len(started)})

    one, two, later = record("one", "noon"), record("two", "noon"), record("later", "afternoon")
    assert one == two
    for name in (RECORD, *one.files):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert one.digest != later.digest
    assert stable(one) == stable(later)
    assert one.files == later.files
    with zipfile.ZipFile(tmp_path / "one" / PER_IMAGE) as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_identity_depends_on_values_and_not_on_their_order():
    one = identity(config={"beta": 4.0, "latent": 8}, seed=0)
    assert one == identity(seed=0, config={"latent": 8, "beta": 4.0})
    assert len(one) == 16
    assert int(one, 16) >= 0
    others = [identity(config={"beta": 4.1, "latent": 8}, seed=0), identity(config={"beta": 4.0, "latent": 8}, seed=1)]
    assert len({one, *others}) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_have_no_canonical_spelling_and_no_record(tmp_path, rng, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": value})
    arrays = fake_arrays(rng)
    body = fake_body(arrays)
    body["metrics"]["rate"]["value"] = value
    with pytest.raises(UserError, match=r"record\.metrics\.rate\.value = -?(nan|inf).*unavailable"):
        write(tmp_path / "run", body, arrays, {})
    assert list(tmp_path.iterdir()) == []


def test_what_a_model_of_someone_elses_says_is_recorded_in_print(tmp_path, rng):
    """Defect: a reason with a line break ended the evaluation when its record was written."""
    arrays = fake_arrays(rng)
    body = fake_body(arrays, warnings=["line\nbreak \x1b[31m"])
    body["metrics"]["ssim"]["unavailable"] = "no\tmean"
    write(tmp_path / "run", body, arrays, {})
    (record,) = read_records(tmp_path)
    assert record.warnings == ["line break ?[31m"]
    assert record.reason("ssim") == "no mean"


def test_a_body_that_could_not_be_read_again_is_not_written(tmp_path, rng):
    arrays = fake_arrays(rng)
    for wrong in ({"seed": "0"}, {"surplus": 1}, {"metrics": {"elbo": -1.0}}, {"data": {"name": "digits"}}):
        with pytest.raises(ValueError, match="the body "):
            write(tmp_path / "run", {**fake_body(arrays), **wrong}, arrays, {})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_copied_in_and_may_be_absent_afterwards(tmp_path, rng):
    arrays = fake_arrays(rng)
    weights = tmp_path / "epoch=3.ckpt"
    weights.write_bytes(b"weights")
    record = write(tmp_path / "results" / "run", fake_body(arrays), arrays, {}, weights)
    assert (record.path / CHECKPOINT).read_bytes() == b"weights"
    (record.path / CHECKPOINT).unlink()
    assert list(read_records(tmp_path / "results")) == [record]


# Damage -----------------------------------------------------------------------------------------------------------


def test_every_byte_of_a_record_counts(tmp_path, rng):
    """Any single flipped bit, also in blanks and in the last digits of a number, is found."""
    write_fake(tmp_path / "run", rng)
    path = tmp_path / "run" / RECORD
    raw = path.read_bytes()
    for place in [*range(0, len(raw), 23), len(raw) - 1, raw.index(b"\n"), raw.index(b"0.")]:
        for bit in (0, 5):
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :])
            records = read_records(tmp_path)
            assert list(records) == []
            assert [damage.path for damage in records.damaged] == [tmp_path / "run"]
    path.write_bytes(raw.replace(b"\n", b" \n", 1))  # the same JSON, spelt in another way
    assert "digest does not match" in read_records(tmp_path).damaged[0].reason


@pytest.mark.parametrize("name", [PER_IMAGE, "samples.png"])
@pytest.mark.parametrize("harm", ["flip", "remove", "truncate"])
def test_a_damaged_file_is_named_and_its_record_left_out(tmp_path, rng, name, harm):
    sound = write_fake(tmp_path / "sound", rng)
    path = write_fake(tmp_path / "harmed", rng).path / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.unlink()
    if harm != "remove":
        path.write_bytes(raw if harm == "flip" else raw[:-1])
    records = read_records(tmp_path)
    assert list(records) == [sound]
    (damage,) = records.damaged
    assert damage.path == tmp_path / "harmed"
    assert damage.reason.startswith(name)
    assert str(damage) == f"{damage.path}: {damage.reason}"


def test_what_is_no_record_of_this_schema_is_named(tmp_path, rng):
    body = json.loads((write_fake(tmp_path / "sound", rng).path / RECORD).read_bytes())

    def forge(name: str, **changes: object) -> None:
        """A record that another program wrote: its digest is right."""
        forged = {k: v for k, v in {**body, **changes, "digest": None}.items() if v is not None}
        forged["digest"] = hashlib.sha256(canonical(forged)).hexdigest()
        (tmp_path / name).mkdir()
        text = json.dumps(forged, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        (tmp_path / name / RECORD).write_text(text, encoding="utf-8")

    forge("newer", schema=4)
    forge("list", metrics=[])
    forge("lacking", protocol={"k": "many", "n": 10, "version": 1})
    forge("outside", files={**body["files"], "../sound/extra.png": "0" * 64})
    for name, text in {"empty": "", "array": "[]", "deep": "[" * 100_000}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORD).write_text(text)
    (tmp_path / "headless").mkdir()
    (tmp_path / "headless" / PER_IMAGE).write_bytes(b"")
    records = read_records(tmp_path)
    assert len(records) == 1
    reasons = {damage.path.name: damage.reason for damage in records.damaged}
    assert reasons.keys() == {"newer", "list", "lacking", "outside", "empty", "array", "deep", "headless"}
    assert "schema 4" in reasons["newer"]
    assert "has a list at metrics, where a table is expected" in reasons["list"]
    assert "protocol.k" in reasons["lacking"]
    assert "schema None" in reasons["array"]
    for name in ("empty", "deep", "headless"):
        assert "cannot be read" in reasons[name]


def test_a_record_of_the_first_schema_is_read(tmp_path, rng):
    """Schema 1 knew neither tables nor warnings."""
    path = write_fake(tmp_path / "old", rng).path
    body = json.loads((path / RECORD).read_bytes())
    old = {name: value for name, value in body.items() if name not in ("tables", "warnings", "digest")} | {"schema": 1}
    old["digest"] = hashlib.sha256(canonical(old)).hexdigest()
    (path / RECORD).write_text(json.dumps(old, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    records = read_records(tmp_path)
    assert not records.damaged
    assert (records[0].schema, records[0].tables, records[0].warnings) == (1, {}, [])
    assert records[0].metrics == body["metrics"]


def test_a_directory_without_records_is_an_error_with_a_remedy(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match="pass a directory"):
            read_records(path)


# Written once, whole or not at all --------------------------------------------------------------------------------


def test_a_record_is_never_overwritten(tmp_path, rng):
    record = write_fake(tmp_path / "run", rng)
    with pytest.raises(UserError, match="never overwritten"):
        write_fake(tmp_path / "run", rng, mean=5.0)
    assert list(read_records(tmp_path)) == [record]


def test_a_write_that_fails_leaves_nothing(tmp_path, rng):
    arrays = fake_arrays(rng)
    with pytest.raises(TypeError):
        write(tmp_path / "run", fake_body(arrays), arrays, {"samples": np.zeros((4, 4, 3))})  # no uint8
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "run", fake_body(arrays), arrays, {}, tmp_path / "gone.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_of_many_writers_one_wins_and_its_record_is_whole(tmp_path):
    outcomes: list[object] = []
    ready = threading.Barrier(64)

    def writer(seed: int) -> None:
        generator = np.random.default_rng(seed)
        ready.wait()
        try:
            outcomes.append(write_fake(tmp_path / "run", generator, seed=seed))
        except UserError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=writer, args=(seed,)) for seed in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if not isinstance(outcome, UserError)]
    assert len(outcomes) == 64
    assert winners == list(read_records(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_writer_whose_files_the_winner_took_away_is_refused_whatever_breaks_in_it(tmp_path):
    def loser() -> None:
        with whole_folder(tmp_path / "run") as partial:
            (partial / "record.json").write_text("loser")
            with whole_folder(tmp_path / "run") as other:
                (other / "record.json").write_text("winner")
            raise EOFError("an archive of which the end is gone")

    with pytest.raises(UserError, match="never overwritten"):
        loser()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "record.json").read_text() == "winner"


def test_a_writer_leaves_alone_what_writers_of_longer_names_are_at(tmp_path):
    with whole_folder(tmp_path / "run.2") as other:
        (other / "record.json").write_text("longer")
        with whole_folder(tmp_path / "run") as partial:
            (partial / "record.json").write_text("shorter")
        assert other.is_dir()
    assert {path.name: (path / "record.json").read_text() for path in tmp_path.iterdir()} == {
        "run": "shorter", "run.2": "longer"
    }  # fmt: skip


KILLED = """
import os, shutil, signal, sys
import numpy as np
from fake_records import fake_arrays, fake_body, write_fake
import vaebench.records
rng = np.random.default_rng(0)
write_fake(sys.argv[1] + "/first", rng)
shutil.copyfileobj = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)  # dies with the other files written
arrays = fake_arrays(rng)
checkpoint = sys.argv[1] + "/first/record.json"  # any file
vaebench.records.write_record(sys.argv[1] + "/second", fake_body(arrays), arrays, {}, checkpoint)
"""


def test_a_killed_writer_leaves_no_record_and_what_it_leaves_is_named(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "second").exists()
    records = read_records(tmp_path)
    assert [record.path for record in records] == [tmp_path / "first"]
    (damage,) = records.damaged
    assert damage.path.name.endswith(PARTIAL)
    assert "never finished" in damage.reason
    write_fake(tmp_path / "second", np.random.default_rng(0))
    records = read_records(tmp_path)
    assert len(records) == 2
    assert not records.damaged, "the record that is written after all takes away what the killed writer left of it"


def test_records_and_leaderboard_import_neither_torch_nor_plotly():
    heavy = "{'torch', 'lightning', 'plotly', 'jinja2', 'scipy.stats', 'PIL'}"
    code = f"import sys, vaebench.records, vaebench.leaderboard; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_index_of_the_source_is_stored_exactly_and_old_records_read_without_it(tmp_path, rng):
    arrays = fake_arrays(rng, 0.0)
    index = 2**24 + 1 + np.arange(IMAGES)  # beyond what float32 counts
    record = write(tmp_path / "new", fake_body(arrays), arrays, {}, index=index)
    write(tmp_path / "old", fake_body(arrays), arrays, {})
    old, new = sorted(read_records(tmp_path), key=lambda r: r.path, reverse=True)
    assert old.index() is None
    assert np.array_equal(new.index(), index)
    assert new.index().dtype == np.int64
    assert old.per_image().keys() == new.per_image().keys() == record.per_image().keys() == arrays.keys()
    with np.load(tmp_path / "new" / "per_image.npz") as stored:
        assert "index[i] of the data set's source" in str(stored["order"])
