"""Comparison of two variants or runs on every board they share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vaebench.errors import UserError, unknown
from vaebench.leaderboard.boards import Board, Row, boards
from vaebench.leaderboard.bootstrap import bootstrap, median_difference
from vaebench.leaderboard.comparable import LOG_LIKELIHOOD, comparable
from vaebench.leaderboard.display import score_display, words
from vaebench.leaderboard.figures import seed_scores
from vaebench.leaderboard.moderation import Trainings
from vaebench.leaderboard.statistics import (
    Comparison,
    Probability,
    after_fresh_trainings,
    carried,
    compare,
    on_a_fresh_image,
)
from vaebench.leaderboard.trust import open_ends
from vaebench.records import RECORD, RunRecord, read_records
from vaebench.records.failures import read_failures
from vaebench.records.find import names_record, record_folder

EXTREMES = 5


@dataclass(frozen=True)
class Side:
    """One of the two: a variant of a board, or a single run of one.

    Attributes:
        name: of the variant, or of the run.
        row: the variant's row on the board.
        records: its runs, by seed.
        figures: its score of every image, (seeds, n); or of every run, (seeds, 1), without per-image values.
    """

    name: str
    row: Row
    records: tuple[RunRecord, ...]
    figures: np.ndarray

    @property
    def seeds(self) -> list[int]:
        return sorted({record.seed for record in self.records})


@dataclass(frozen=True)
class ByImage:
    """Statistics over single images.

    Attributes:
        median: the median difference, and its 95 % interval by the hierarchical bootstrap.
        fresh: probability that the first is better on a new test image.
        carried: the image with the largest share of the variance of the differences, that share, and their trimmed
            mean.
        most: indices of the test images with the largest differences, in favour of the first, then of the second.
    """

    median: tuple[float, tuple[float, float]]
    fresh: Probability
    carried: tuple[int, float, float]
    most: tuple[list[int], list[int]]


@dataclass(frozen=True)
class Versus:
    """A comparison of two sides on one board; differences are first minus second, in the score's unit.

    Attributes:
        board: the common board.
        first, second: the sides.
        result: difference, interval and noise.
        by_image: statistics over images; None for scores without per-image values.
        fresh_training: probability that a new training of the first is better in the mean; None where the noise over
            trainings is unknown.
        significant: whether the board's ranks differ significantly, with all its pairs compared at once; None where one
            side has no rank, as single runs, claims and provisional rows.
    """

    board: Board
    first: Side
    second: Side
    result: Comparison
    by_image: ByImage | None
    fresh_training: Probability | None
    significant: bool | None

    @property
    def differences(self) -> np.ndarray:
        """The difference of every image, averaged over seeds, (n,)."""
        return np.asarray(self.first.figures.mean(0, dtype=np.float64) - self.second.figures.mean(0, dtype=np.float64))

    @property
    def verdict(self) -> Literal["better", "worse", "tie"]:
        """The verdict on the first: a tie where the interval of the difference includes 0."""
        if self.result.tie:
            return "tie"
        return "better" if self.result.difference * self.board.sign > 0 else "worse"


def versus(first: str, second: str, results: str | Path, metric: str | None = None) -> list[Versus]:
    """Compares two variants or records on every board they share.

    Args:
        first, second: a variant's name as on the leaderboard, or a record as in `find_record`, inside `results` or
            elsewhere.
        results: directory of the records.
        metric: for the comparison; see `boards`. Trials of sweeps are compared with other runs where one is named.

    Raises:
        UserError: a name is unknown, both are the same, they share no board, or one lacks the metric.
    """
    return [_versus(*one) for one in meetings(first, second, results, metric)]


def rows_versus(board: Board, first: Row, second: Row) -> Versus:
    """Compares two rows of a board.

    Raises:
        UserError: both are the same, or one lacks the board's score.
    """
    return _versus(*_meeting(board, (first, first.records), (second, second.records)))


def meetings(
    first: str, second: str, results: str | Path, metric: str | None = None
) -> list[tuple[Board, Side, Side, Trainings | None]]:
    """Every board of both variants or runs, with its noise over their trainings; None where a claim is one of them.

    Arguments and errors are those of `versus`.
    """
    records = list(read_records(results))
    known = {record.path.resolve() for record in records if record.path}
    for name in (first, second):
        if (record_folder(name) / RECORD).is_file() and record_folder(name).resolve() not in known:
            records += read_records(record_folder(name))
    failures = read_failures(Path(results))[0]
    for trials in (False, True):
        ranked = boards(records, metric, failures, trials)
        sides = [_sides(name, ranked, Path(results)) for name in (first, second)]
        shared = [index for index in range(len(ranked)) if index in sides[0] and index in sides[1]]
        if shared:
            break
    else:
        runs = [[records[0] for _, records in side.values()] for side in sides]
        raise _apart((first, second), runs, metric or LOG_LIKELIHOOD)
    return [_meeting(ranked[index], *(side[index] for side in sides)) for index in shared]


def _meeting(board: Board, *chosen: tuple[Row, tuple[RunRecord, ...]]) -> tuple[Board, Side, Side, Trainings | None]:
    first, second = (_side(board, *side) for side in chosen)
    if first.records == second.records:
        raise UserError(f"'{first.name}' cannot be compared with itself: expected two variants or runs; name another")
    return board, first, second, _noise(board, first.row, second.row)


def _sides(name: str, ranked: Sequence[Board], results: Path) -> dict[int, tuple[Row, tuple[RunRecord, ...]]]:
    """The row of a name and the selected runs of it, by the index of the board."""
    variants = {index: row for index, board in enumerate(ranked) for row in board.rows if row.variant == name}
    if variants:
        if not all(row.records for row in variants.values()):
            raise UserError(f"'{name}' has no record to compare, for all of its runs diverged or failed; name another")
        return {index: (row, row.records) for index, row in variants.items()}
    runs = [
        (index, row, record)
        for index, board in enumerate(ranked)
        for row in board.rows
        for record in row.records
        if names_record(name, record, results)
    ]
    if len(named_so := sorted({record.id for _, _, record in runs})) > 1:
        raise UserError(f"'{name}' may mean any of the runs {', '.join(named_so)}; give the id of one, or its folder")
    if runs:
        return {index: (row, (record,)) for index, row, record in runs}
    names = {row.variant for board in ranked for row in board.rows}
    folders = {record.path.name for board in ranked for row in board.rows for record in row.records if record.path}
    remedy = "Give a variant as the leaderboard names it, the id of a record, or the folder of a run."
    raise unknown("variant", name, sorted(names) + sorted(folders - names), remedy)


def _versus(board: Board, first: Side, second: Side, over_trainings: Trainings | None) -> Versus:
    opened = open_ends([first.records, second.records], board.score)[0, 1]
    result = compare(first.figures, second.figures, over_trainings, float(opened))
    signed = [board.sign * side.figures for side in (first, second)]
    whole = all(side.records == side.row.records and side.row.rank for side in (first, second))
    rivals = first.row.variant in second.row.beaten_by or second.row.variant in first.row.beaten_by
    return Versus(
        board,
        first,
        second,
        result,
        _by_image(board, first, second) if board.images else None,
        after_fresh_trainings(signed[0], signed[1], over_trainings),
        rivals if whole else None,
    )


def _by_image(board: Board, first: Side, second: Side) -> ByImage:
    median, noise = bootstrap(median_difference, first.figures, second.figures)
    half = float(noise.half_width())
    signed = [board.sign * side.figures for side in (first, second)]
    order = np.argsort(-(signed[0].mean(0, dtype=np.float64) - signed[1].mean(0, dtype=np.float64)), kind="stable")
    return ByImage(
        (median, (median - half, median + half)),
        on_a_fresh_image(*signed),
        carried(first.figures, second.figures),
        (order[:EXTREMES].tolist(), order[::-1][:EXTREMES].tolist()),
    )


def _side(board: Board, row: Row, records: tuple[RunRecord, ...]) -> Side:
    scores = seed_scores(records, board.score, board.images)
    whole = records == row.records
    name = row.variant if whole else f"{row.variant}, run {records[0].id[:8]} (seed {records[0].seed})"
    if scores is None:
        reasons = [record.reason(board.score) for record in records if record.value(board.score) is None]
        raise UserError(
            f"'{name}' has no {score_display(board).heading} of every image "
            f"({reasons[0] if reasons else 'not recorded'}); compare by another with --metric, such as mse"
        )
    return Side(name, row, records, scores)


def _noise(board: Board, *rows: Row) -> Trainings | None:
    """The board's noise over trainings of two rows; None where one is a claim."""
    columns = [i for row in rows for i, other in enumerate(board.rows) if other is row and not row.claimed]
    return board.noise.of(*columns) if len(columns) == 2 else None


# What keeps two apart ---------------------------------------------------------------------------------------------


def _apart(names: tuple[str, str], sides: Sequence[Sequence[RunRecord]], metric: str) -> UserError:
    """The error for two sides without a common board, which lists the differences of their most similar estimates."""
    conditions = [[comparable(record, metric) for record in side] for side in sides]
    pairs = [dict(_differences(one, other)) for one in conditions[0] for other in conditions[1]]
    nearest = min(pairs, key=len)
    if "data.name" in nearest:
        nearest = {name: both for name, both in nearest.items() if name.split(".")[0] != "data" or name == "data.name"}
    differ = ", ".join(f"{name} ({both})" for name, both in nearest.items())
    return UserError(
        f"'{names[0]}' and '{names[1]}' were not measured in the same way and cannot be compared: they differ in "
        f"{differ}; evaluate both on the same data by one protocol"
    )


def _differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The differences between two pieces of plain JSON: paths and both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif one != other:
        yield path, f"{_short(one)} against {_short(other)}"


def _short(value: Any) -> str:
    text = "none" if value is None else words(value) or "none"
    return text[:8] if len(text) == 64 else text


def spreads(rows: Iterable[Row], score: str) -> list[float]:
    """Standard deviations over trainings of the variants with several seeds, ascending."""
    estimates = [row.estimates[score] for row in rows if score in row.estimates]
    return sorted(one.over_seeds * math.sqrt(one.seeds) for one in estimates if one.over_seeds is not None)
