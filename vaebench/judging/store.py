"""The file of a study: SQLite, one transaction an answer, so that nothing that was answered is lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.errors import UserError
from vaebench.judging.plan import Question, Study

SCHEMA = 1
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
        first: digest of the record whose image was shown, on the left of two; None for a test image.
        second: of the one on the right.
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
        UserError: it is there and is no file of judgements.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not self._empty():
            self.study()

    def start(self, study: Study) -> Study:
        """Begins a study, or goes on with the file's where it asks the same; its seed is the file's then.

        Raises:
            UserError: the file holds a study that asks other things.
        """
        if self.path.exists() and not self._empty():
            kept = self.study()
            if wrong := [n for n, value in asdict(kept).items() if n != "seed" and value != asdict(study)[n]]:
                raise UserError(
                    f"'{self.path}' holds a study with other {', '.join(wrong)}: expected the same ones; name another "
                    "file with --judgements, or give no record to go on with this one"
                )
            return kept
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as file:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("BEGIN IMMEDIATE")
            for statement in TABLES.split(";\n"):
                file.execute(statement)
            file.execute("INSERT INTO study VALUES (?, ?)", (SCHEMA, json.dumps(asdict(study))))
            file.execute("COMMIT")
        return study

    def study(self) -> Study:
        """What is asked."""
        ((schema, text),) = self._rows("SELECT schema, study FROM study")
        if schema != SCHEMA:
            raise UserError(f"'{self.path}' has judgements of schema {schema}, not {SCHEMA}; update vaebench")
        body = json.loads(text)
        return Study(**{**body, "runs": tuple(body["runs"]), "kinds": tuple(body["kinds"])})

    def judge(self, name: str) -> int:
        """The number of the judge of that name, who is new or goes on."""
        with self._open() as file:
            file.execute("BEGIN IMMEDIATE")
            (count,) = file.execute("SELECT count(*) FROM judges").fetchone()
            file.execute("INSERT INTO judges VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (count, name))
            (number,) = file.execute("SELECT number FROM judges WHERE name = ?", (name,)).fetchone()
            file.execute("COMMIT")
        return int(number)

    def known(self, judge: int) -> bool:
        """Whether there is a judge of that number."""
        return bool(self._rows("SELECT 1 FROM judges WHERE number = ?", judge))

    def done(self, judge: int) -> int:
        """How many questions a judge has answered; they are the first ones."""
        ((count,),) = self._rows("SELECT count(*) FROM answers WHERE judge = ?", judge)
        return int(count)

    def add(self, judge: int, number: int, question: Question, answer: str) -> None:
        """Keeps an answer before it returns; the first one to a question counts."""
        runs = [None if slot.run is None else self.study().runs[slot.run] for slot in question.slots]
        images = json.dumps([slot.image for slot in question.slots])
        at = datetime.now(UTC).isoformat(timespec="seconds")
        row = (judge, number, question.kind, runs[0], runs[1] if len(runs) > 1 else None, images, answer, at)
        with self._open() as file:
            file.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)

    def answers(self) -> list[Answer]:
        """All answers, by judge and question."""
        found = "SELECT judge, kind, first, second, answer FROM answers ORDER BY judge, question"
        return [Answer(*row) for row in self._rows(found)]

    def _empty(self) -> bool:
        """Whether the file was begun by a process that died before it wrote the study."""
        return not self._rows("SELECT 1 FROM sqlite_master")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        if not self.path.is_file():
            raise UserError(f"no file '{self.path}' of judgements; `vaebench judge` writes one")
        with self._open() as file:
            return file.execute(query, values).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        file = sqlite3.connect(self.path, timeout=30, isolation_level=None)  # each statement is a transaction
        try:
            file.execute("PRAGMA synchronous = FULL")
            yield file
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"'{self.path}' cannot be used as a file of judgements ({error}): expected one that `vaebench judge` "
                "wrote; name another with --judgements"
            ) from error
        finally:
            file.close()
