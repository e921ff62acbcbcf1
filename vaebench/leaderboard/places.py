"""Addresses on the leaderboard page."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vaebench.leaderboard.boards import Board
from vaebench.records import RunRecord


class Places:
    """Addresses on the page that are stable when records are added: of boards by content, of runs by their ids."""

    def __init__(self, boards: Iterable[Board]) -> None:
        self._boards: dict[int, str] = {}
        self._runs: dict[tuple[int, int], str] = {}
        taken: set[str] = set()
        for board in boards:
            self._boards[id(board)] = _free(_slug(board), taken)
            for record in board.records:
                self._runs[id(board), id(record)] = _free(f"run-{record.id}", taken)

    def board(self, board: Board) -> str:
        """The id of a board."""
        return self._boards[id(board)]

    def run(self, board: Board, record: RunRecord) -> str:
        """The id of a run on a board."""
        return self._runs[id(board), id(record)]


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number appended where it is taken."""
    free = next(one for i in range(len(taken) + 1) if (one := f"{name}-{i + 1}" if i else name) not in taken)
    taken.add(free)
    return free


def _slug(board: Board) -> str:
    parts = [str(board.data["name"]), str(board.data["measure"])]
    parts += [board.wanted] if board.wanted != "log_likelihood" else []
    parts += [f"k-{board.estimator['k']}"] if board.estimator.get("k") is not None else []
    parts += ["surrogate"] * board.surrogate + ["trials"] * bool(board.trials)
    return "board-" + "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)
