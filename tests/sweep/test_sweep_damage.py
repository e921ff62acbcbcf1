"""A sweep's storage that is away, damaged or another program's is answered in one sentence."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from fuzz import run
from optuna import create_trial
from optuna.distributions import FloatDistribution
from test_sweep_trials import TEXT

from vaebench.errors import UserError
from vaebench.sweep.spec.spec import read_sweep
from vaebench.sweep.storage.sound import AwayError, answering
from vaebench.sweep.storage.study import connect, create_study, default_storage

NOTE = "UPDATE trial_user_attributes SET value_json = {} WHERE key = {}"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a sweep with two finished trials."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "tiny.yaml").write_text(TEXT)
    sweep = read_sweep(folder / "tiny.yaml")
    opened = connect(sweep, default_storage(sweep, folder))
    study = create_study(sweep, opened, resume=False)
    for value in (-1.0, -2.0):
        notes = {"records": ["vae-s0-1"], "progress": [1.0, value], "figures": {"val/elbo": value}}
        space = {"model.beta": FloatDistribution(0.1, 10, log=True)}
        trial = create_trial(
            params={"model.beta": 1.0},
            distributions=space,
            values=[value],
            intermediate_values={1: value},
            user_attrs=notes,
        )
        study.add_trial(trial)
    opened.engine.dispose()
    file = folder / "tiny" / "sweep.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file.read_bytes()


def _answer(
    folder: Path, content: bytes | None = None, *change: str, command: str = "status", address: str = ""
) -> str:
    """What a command says of a storage of this content, after these changes of it."""
    (folder / "tiny.yaml").write_text(TEXT)
    if content is not None:
        (folder / "tiny").mkdir(exist_ok=True)
        (folder / "tiny" / "sweep.db").write_bytes(content)
        with sqlite3.connect(folder / "tiny" / "sweep.db") as connection:
            for statement in change:
                connection.execute(statement)
    action = [command] if command != "resume" else ["--resume"]
    place = [f"--results={folder}", f"--work={folder}/work"]
    outcome = run("sweep", *action, f"{folder}/tiny.yaml", *place, *([f"--storage={address}"] if address else []))
    assert outcome.kind == "refusal", outcome
    return outcome.err


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE study_user_attributes SET value_json = 'x'", "UPDATE alembic_version SET version_num = 'zzz'",
        "UPDATE trial_user_attributes SET value_json = 'x'", "UPDATE trial_user_attributes SET value_json = 'null'",
        NOTE.format("'[1]'", "'progress'"), NOTE.format("'[1]'", "'records'"),
        "UPDATE trial_params SET distribution_json = '{}'", "UPDATE trial_params SET param_value = 'x'",
        "UPDATE trials SET state = 'zzz'", "UPDATE trials SET number = 7", "UPDATE trials SET datetime_start = 'zzz'",
        "DELETE FROM trial_values", "UPDATE trial_values SET value = 'x'", "DROP TABLE study_directions",
        "UPDATE trial_intermediate_values SET intermediate_value = 'x'",
    ],
)  # fmt: skip
def test_a_damaged_storage_is_no_traceback(storage: bytes, statement: str, tmp_path: Path) -> None:
    """Defect: each of these was one, of SQLAlchemy's, Optuna's or the suite's own."""
    answer = _answer(tmp_path, storage, statement)
    assert "the storage is damaged, or of another program or version (" in answer
    assert "restore it, or give another --storage" in answer


@pytest.mark.parametrize("command", ["status", "report", "resume"])
def test_a_file_that_is_no_database_is_no_traceback(command: str, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "sweep.db").write_bytes(b"hello world" * 500)
    answer = _answer(tmp_path, command=command)
    assert "the storage is damaged, or of another program or version (file is not a database)" in answer


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:///:memory:", "names no file that processes share"),
        ("sqlite:///{folder}", "names no file that processes share"),
        ("sqlite:///{folder}/tiny.yaml/x.db", "cannot be used"),
        ("postgresql://user:secret@[::", "the storage's address cannot be read"),
        ("postgresql://user:secret@127.0.0.1:99999/x", "the storage does not answer"),
        ("mysql://x", "is no storage with heartbeats"),
    ],
)
def test_a_storage_that_cannot_be_had_is_no_traceback(address: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TEXT)
    answer = _answer(tmp_path, command="resume", address=address.format(folder=tmp_path))
    assert message in answer
    assert "secret" not in answer


def test_what_is_damaged_is_not_waited_for() -> None:
    """Workers wait for a storage that is away, and a damaged one comes back by no waiting."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    away = OperationalError("SELECT", {}, sqlite3.OperationalError("unable to open database file"))
    damaged = DatabaseError("SELECT", {}, sqlite3.DatabaseError("database disk image is malformed"))
    with pytest.raises(AwayError, match="does not answer"), answering():
        raise away
    with pytest.raises(UserError, match="is damaged") as caught, answering():
        raise damaged
    assert not isinstance(caught.value, AwayError)
