"""The file of a study: SQLite, with one transaction per answer, so that no answer is lost."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.errors import UserError
from vaebench.judging.plan import ANSWERS, KINDS, REAL, SHOWN, Question, Study

SCHEMA = 1
# An addition to schema 1: hashes of the judges' keys, so that a reader of the file cannot answer for them.
KEYS = "CREATE TABLE IF NOT EXISTS keys (judge INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE)"
TABLES = """
CREATE TABLE study (schema INTEGER NOT NULL, study TEXT NOT NULL);
CREATE TABLE judges (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE answers (
  judge INTEGER NOT NULL REFERENCES judges, question INTEGER NOT NULL, kind TEXT NOT NULL,
  first TEXT, second TEXT, images TEXT NOT NULL, answer TEXT NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (judge, question)
);
"""


class Answer(NamedTuple):
    """One answer.

    Attributes:
        judge: 0, 1, …
        kind: of question.
        first: digest of the record of the (left) image; None for a test image.
        second: the same for the right image.
        answer: one of `plan.ANSWERS`.
    """

    judge: int
    kind: str
    first: str | None
    second: str | None
    answer: str


class Judgements:
    """The answers to one study, in a file that several processes may open.

    Args:
        path: the file.

    Raises:
        UserError: it exists and is not a file of judgements.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not self._empty():
            self.study()

    def start(self, study: Study) -> Study:
        """Starts a study, or resumes the file's where it is the same, with the file's seed.

        Raises:
            UserError: the file holds another study, or cannot be written.
        """
        if self.path.exists() and not self._empty():
            kept = self.study()
            if wrong := [n for n, value in asdict(kept).items() if n != "seed" and value != asdict(study)[n]]:
                raise UserError(
                    f"'{self.path}' holds a study with other {', '.join(wrong)}: expected the same ones; name another "
                    "file with --judgements, or give no record to go on with this one"
                )
            return kept
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        with self._open() as file:
            file.execute("BEGIN IMMEDIATE")
            for statement in TABLES.split(";\n"):
                file.execute(statement)
            file.execute("INSERT INTO study VALUES (?, ?)", (SCHEMA, json.dumps(asdict(study))))
            file.execute("COMMIT")
        return study

    def admit(self) -> None:
        """Prepares the file for judges, also one of an earlier version.

        Raises:
            UserError: it cannot be written.
        """
        with self._open() as file:
            file.execute("PRAGMA journal_mode = DELETE")  # one file, so that a copy is complete
            file.execute("BEGIN IMMEDIATE")
            file.execute(KEYS)
            file.execute("UPDATE study SET schema = schema")  # fails now, not at the first answer
            file.execute("COMMIT")

    def study(self) -> Study:
        """The study in the file.

        Raises:
            UserError: the file is damaged, or of another version.
        """
        try:
            ((schema, text),) = self._rows("SELECT schema, study FROM study")
            if schema == SCHEMA:
                body = json.loads(text)
                study = Study(**{**body, "runs": tuple(body["runs"]), "kinds": tuple(body["kinds"])})
                _check(study)
                return study
        except UserError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"'{self.path}' holds a damaged study ({error}): expected one that `vaebench judge` wrote; name "
                "another file with --judgements"
            ) from error
        raise UserError(f"'{self.path}' has judgements of schema {schema}, not {SCHEMA}; update vaebench")

    def enrol(self, name: str) -> str | None:
        """A new judge's key for `find`; None where the name is in use.

        A judge in a file from before keys existed gets one by entering the same name again.
        """
        key = secrets.token_urlsafe(16)
        with self._open() as file:
            file.execute("BEGIN IMMEDIATE")
            file.execute(
                "INSERT INTO judges SELECT coalesce(max(number) + 1, 0), ? FROM judges WHERE true "
                "ON CONFLICT (name) DO NOTHING",
                (name,),
            )
            (number,) = file.execute("SELECT number FROM judges WHERE name = ?", (name,)).fetchone()
            new = file.execute("INSERT INTO keys VALUES (?, ?) ON CONFLICT (judge) DO NOTHING", (number, _digest(key)))
            free = new.rowcount == 1
            file.execute("COMMIT")
        return key if free else None

    def find(self, key: str) -> int | None:
        """The number of the judge with this key, 0, 1, … in the order of enrolment; None for an unknown key."""
        rows = self._rows("SELECT judge FROM keys WHERE digest = ?", _digest(key))
        return int(rows[0][0]) if rows else None

    def done(self, judge: int) -> int:
        """The number of answered questions of a judge, which are the first ones."""
        ((count,),) = self._rows("SELECT count(*) FROM answers WHERE judge = ?", judge)
        return int(count)

    def add(self, judge: int, number: int, question: Question, answer: str) -> None:
        """Stores an answer durably; only the first answer to a question counts."""
        runs = [None if slot.run is None else self.study().runs[slot.run] for slot in question.slots]
        images = json.dumps([slot.image for slot in question.slots])
        at = datetime.now(UTC).isoformat(timespec="seconds")
        row = (judge, number, question.kind, runs[0], runs[1] if len(runs) > 1 else None, images, answer, at)
        with self._open() as file:
            file.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)

    def answers(self) -> list[Answer]:
        """All answers, by judge and question.

        Raises:
            UserError: one of them does not fit the study.
        """
        runs = {*self.study().runs, None}
        answers = [
            Answer(*row)
            for row in self._rows("SELECT judge, kind, first, second, answer FROM answers ORDER BY judge, question")
        ]
        for a in answers:
            if a.answer not in ANSWERS.get(a.kind, ()) or a.first not in runs or a.second not in runs:
                raise UserError(
                    f"'{self.path}' holds an answer of judge {a.judge} that its study cannot have: expected what "
                    "`vaebench judge` wrote; use an unchanged copy of the file"
                )
        return answers

    def _empty(self) -> bool:
        """Whether the process that created the file died before it wrote the study."""
        return not self._rows("SELECT 1 FROM sqlite_master")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        if not self.path.is_file():
            raise UserError(f"no file '{self.path}' of judgements; `vaebench judge` writes one")
        with self._open() as file:
            return file.execute(query, values).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            file = sqlite3.connect(self.path, timeout=30, isolation_level=None)  # each statement is a transaction
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            file.execute("PRAGMA trusted_schema = OFF")
            file.execute("PRAGMA synchronous = FULL")
            yield file
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"'{self.path}' cannot be used as a file of judgements ({error}): expected one that `vaebench judge` "
                "wrote; name another with --judgements"
            ) from error
        finally:
            file.close()

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"'{self.path}' cannot be read and written as a file of judgements ({error}): expected a file of `vaebench "
            "judge` in a folder that may be written, on a disk with room; name another with --judgements"
        )


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _check(study: Study) -> None:
    """Raises ValueError for an invalid study."""
    numbers = {"rounds": 1, "seed": 0, "images": 1, "originals": int(REAL in study.kinds)}
    for name, least in numbers.items():
        value = asdict(study)[name]
        if type(value) is not int or value < least:
            raise ValueError(f"{name} is {value!r}, not a whole number from {least}")
    if not all(isinstance(run, str) for run in study.runs):
        raise ValueError("a run is no digest")
    if study.shown not in SHOWN or not study.kinds or not set(study.kinds) <= set(KINDS):
        raise ValueError(f"'{study.shown}' and {', '.join(map(str, study.kinds))} are no questions")
