"""Single images of runs, cut from the pictures in their records."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vaebench.errors import UserError
from vaebench.functional.tiles import cut
from vaebench.judging.plan import CHOICE, REAL
from vaebench.records import RunRecord


class PngImages:
    """PNG files of single images, in memory.

    Args:
        records: the runs, all on the same test images.
        shown: kind of pictures, one of `plan.SHOWN`.
        kinds: of the study's questions.

    Attributes:
        made: images of every run.
        originals: test images, where the study shows them; for reconstructions, in the same order.

    Raises:
        UserError: runs on different data, too few of them, or pictures that are missing or unsuitable.
    """

    made: list[list[bytes]]
    originals: list[bytes]

    def __init__(self, records: Sequence[RunRecord], shown: str, kinds: Sequence[str]) -> None:
        _check(records, kinds)
        self.originals = []
        if shown == "reconstructions" or REAL in kinds:
            grids = [_grid(record, "reconstructions") for record in records]
            tests = [[tile for row in grid[::2] for tile in row] for grid in grids]
            if any(test != tests[0] for test in tests):
                raise UserError("the runs reconstructed other test images: judge runs of one protocol together")
            self.originals = tests[0]
        if shown == "reconstructions":
            self.made = [[tile for row in grid[1::2] for tile in row] for grid in grids]
        else:
            self.made = [[tile for row in _grid(record, shown) for tile in row] for record in records]


def _check(records: Sequence[RunRecord], kinds: Sequence[str]) -> None:
    if len(records) < 2 and CHOICE in kinds:
        raise UserError("a choice needs two runs: name another record, or leave 'choice' out of --questions")
    if len({record.digest for record in records}) < len(records):
        raise UserError("a record was named twice: name each once")
    first = records[0].data
    for record in records[1:]:
        if any(record.data.get(key) != first.get(key) for key in ("name", "measure", "shape")) or (
            record.data["hashes"].get("test") != first["hashes"].get("test")
        ):
            raise UserError(
                f"record {record.id} is on other test images than {records[0].id}: expected all on the same ones; "
                "judge runs of one data set together"
            )
    if first["measure"] == "binary" and REAL in kinds:
        raise UserError(
            f"'{first['name']}' is binary, and no real image of 0 and 1 looks like the grey means of p(x|z) that runs "
            "are shown by: expected grey or coloured data; leave 'real' out of --questions"
        )


def _grid(record: RunRecord, name: str) -> list[list[bytes]]:
    """Rows of PNG files from one of a record's pictures, without empty places."""
    path = record.pictures().get(name)
    if path is None:
        raise UserError(
            f"record {record.id} in '{record.path}' has no picture '{name}' to be judged by: evaluate it with a "
            f"protocol that measures {'reconstruction' if name == 'reconstructions' else name}"
        )
    try:
        rows = cut(record.pixels(name), record.data["shape"])
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"'{path}' cannot be cut into images ({error}); evaluate the run again") from None
    pairs = 2 if name == "reconstructions" else 1  # rows that an image takes
    count = min(len(rows) // pairs * len(rows[0]), record.protocol["n"] if pairs == 2 else len(rows) * len(rows[0]))
    return [[_png(tile) for tile in row[: max(0, count - at // pairs * len(row))]] for at, row in enumerate(rows)]


def _png(tile: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "PNG")
    return buffer.getvalue()


def find_runs(records: Sequence[RunRecord], digests: Sequence[str], results: Path) -> list[RunRecord]:
    """The records of a study by their digests, in its order.

    Raises:
        UserError: one of them is missing.
    """
    known = {record.digest: record for record in records}
    if missing := [digest for digest in digests if digest not in known]:
        raise UserError(
            f"the study has a record of digest {missing[0][:16]}… that is not below '{results}': give --results "
            "the folder that it was begun with"
        )
    return [known[digest] for digest in digests]
