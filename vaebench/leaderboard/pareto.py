"""Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaebench.leaderboard.boards import Board, Row


def front(points: np.ndarray) -> np.ndarray:
    """Whether each of points (m, d) lies on the Pareto front, booleans (m,); smaller is better in every column.

    A point is dominated if another is nowhere larger and somewhere smaller; equal points share their status.

    >>> front(np.array([[1.0, 9.0], [2.0, 5.0], [3.0, 6.0], [2.0, 5.0]])).tolist()
    [True, True, False, True]
    """
    smaller_or_equal = (points[:, None] <= points[None]).all(-1)
    dominates = smaller_or_equal & (points[:, None] < points[None]).any(-1)
    return np.asarray(~dominates.any(0))


def rate_distortion_front(board: Board) -> frozenset[str]:
    """Variants on the Pareto front of rate and distortion, by their means over seeds, without a test of significance.

    Variants without a rate or a distortion are not on it, and claims are ignored.
    """
    points = [(row, plane(row)) for row in board.rows if not row.claimed]
    placed = [(row.variant, point) for row, point in points if point is not None]
    if not placed:
        return frozenset()
    on_it = front(np.array([point for _, point in placed]))
    return frozenset(name for (name, _), yes in zip(placed, on_it, strict=True) if yes)


def plane(row: Row) -> tuple[float, float] | None:
    """Rate and distortion of a variant, nats, means over seeds; None where it lacks one."""
    rate, distortion = (row.estimates.get(name) for name in ("rate", "distortion"))
    return (rate.mean, distortion.mean) if rate and distortion else None


def within(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """The index of the best score at no higher cost, for each choice; ties go to the cheapest, then to the first.

    >>> within([3.0, 1.0, 2.0], [5.0, 4.0, 3.0])
    [0, 1, 1]
    """
    indices = range(len(costs))
    best = sorted(indices, key=lambda i: (-scores[i], costs[i], i))
    return [next(i for i in best if costs[i] <= cost) for cost in costs]
