"""Boards and other tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vaebench.display.tables import escaped
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.cells import Cell, Table
from vaebench.leaderboard.facts import facts, title
from vaebench.leaderboard.table import LEGEND, table


def markdown(boards: Iterable[Board]) -> str:
    """Every board as a Markdown table with its footnotes, and one legend."""
    return "\n".join([*(_markdown(board) for board in boards), LEGEND, ""])


def _markdown(board: Board) -> str:
    common = escaped("; ".join(f"{name}: {value}" for name, value in facts(board).items()))
    return f"### {escaped(title(board))}\n\n{common}\n\n{markdown_table(table(board))}"


def markdown_table(sheet: Table) -> str:
    """A table and its footnotes as Markdown."""
    shown = [index for index, column in enumerate(sheet.columns) if not column.page]
    headings = [
        escaped(c.heading + (f" ({c.unit})" if c.unit else "")) for c in (sheet.columns[index] for index in shown)
    ]
    lines = [
        _line(headings),
        _line([":--" if sheet.columns[index].words else "--:" for index in shown]),
        *(_line([_text(cells[index]) for index in shown]) for cells in sheet.cells),
        "",
        *(f"[{index}] {escaped(note)}\n" for index, note in enumerate(sheet.notes, 1)),
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    return " ".join([escaped(cell.text), *(f"[{note}]" for note in cell.notes)])
