"""A board as a forest plot: every variant's difference from the leader, with the noise of seeds and of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.display import number, score_display
from vaebench.leaderboard.kinds import kind
from vaebench.leaderboard.statistics import NORMAL

KEPT = 0.6  # share of the variants on the axis; farther ones have an arrow at its end


class Mark(NamedTuple):
    """One line of the plot, in the unit of the score.

    Attributes:
        row: the variant.
        kind: its kind, which sets the colour.
        difference: its mean minus the leader's.
        over_images: half width of the 95 % interval over images alone; 0 for scores without per-image values.
        over_both: half width over seeds and images; None where the variance over trainings is unknown.
        alone: it has one seed.
        tie: it does not differ significantly from the leader.
        text: the difference as text.
    """

    row: Row
    kind: str
    difference: float
    over_images: float
    over_both: float | None
    alone: bool
    tie: bool
    text: str


class Forest(NamedTuple):
    """The marks, the axis, and the band of ties with the leader, in the score's unit."""

    marks: list[Mark]
    axis: tuple[float, float]
    ticks: list[float]
    band: tuple[float, float] | None


def forest(board: Board) -> Forest:
    """The forest plot of a board's ranked and provisional rows, the leader first."""
    rows = [row for row in board.rows if row.rank or row.provisional]
    marks = [_mark(board, row, rows[0]) for row in rows]
    tied = [mark.difference for mark in marks if mark.tie]
    band = (min(tied), max(tied)) if len(tied) > 1 else None
    low, high = _axis(marks)
    return Forest(marks, (low, high), round_values(low, high), band)


def _mark(board: Board, row: Row, leader: Row) -> Mark:
    about, gap, decimals = kind(row.records[0]), row.gap, score_display(board).decimals
    if gap is None:
        return Mark(row, about, 0.0, 0.0, None, len(row.seeds) == 1, True, "leads")
    both = None if gap.provisional else (gap.interval[1] - gap.interval[0]) / 2
    tie = gap.tie if row.provisional or leader.provisional else leader.variant not in row.beaten_by
    shown = f"{'+' if gap.difference > 0 else ''}{number(gap.difference, decimals)}"
    return Mark(row, about, gap.difference, NORMAL * gap.over_images, both, len(row.seeds) == 1, tie, shown)


def _axis(marks: Sequence[Mark]) -> tuple[float, float]:
    """The ends of an axis that holds the leader and most other variants."""
    reach = sorted(abs(mark.difference) + (mark.over_both or mark.over_images) for mark in marks)
    if not reach or not reach[-1]:
        return -1.0, 1.0
    kept = reach[min(len(reach) - 1, int(KEPT * len(reach)))]
    far = reach[-1] if reach[-1] <= 2 * kept else kept
    down = any(mark.difference < 0 for mark in marks)
    return (-1.05 * far, 0.06 * far) if down else (-0.06 * far, 1.05 * far)


def round_values(low: float, high: float) -> list[float]:
    """Round values in an interval, at most seven of them.

    >>> round_values(-4.2, 0.24)
    [-4.0, -3.0, -2.0, -1.0, 0.0]
    """
    steps = [digit * 10.0**power for power in range(-9, 101) for digit in (1, 2, 5)]
    step = next(one for one in steps if (high - low) / one <= 6)
    return [round(i * step, 9) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
