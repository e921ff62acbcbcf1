"""Boards in the terminal, as tables with the columns that fit."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from vaebench.display.terminal import wide
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.cells import Cell
from vaebench.leaderboard.cells import Table as Sheet
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.headline import headline
from vaebench.leaderboard.table import LEGEND, level, table

COLOURS = {"decided": "green", "tie": "yellow", "provisional": "yellow"}


def print_boards(boards: Iterable[Board], left_out: str = "", console: Console | None = None) -> None:
    """Prints every board: its headline, its table, and the footnotes of the shown columns."""
    console = wide(console)
    if left_out:
        console.print(Text(f"Left out: {left_out}\n", "yellow"))
    for board in boards:
        said, sheet = headline(board), table(board)
        console.print(Text(title(board), "bold"))
        console.print(Text.assemble((said.state, COLOURS.get(said.state, "dim")), f": {said.sentence}"))
        shown = fitting(board, sheet, console)
        console.print(_drawn(sheet, shown))
        used = {note for cells in sheet.cells for index in shown for note in cells[index].notes}
        for note in sorted(used):
            console.print(Text(f"[{note}] {sheet.notes[note - 1]}", "dim"))
        hidden = len([c for c in sheet.columns if not c.page]) - len(shown)
        if hidden:
            console.print(Text(f"{hidden} more columns: a wider terminal, --html or --format csv", "dim"))
        console.print()
    console.print(Text(LEGEND, "dim"))


def fitting(board: Board, sheet: Sheet, console: Console) -> list[int]:
    """Indices of the columns that fit the console, in the table's order: the first ones by their level."""
    wanted = [index for index, column in enumerate(sheet.columns) if not column.page]
    wanted.sort(key=lambda index: level(board, sheet.columns[index].key))  # stable: else in the table's order
    chosen: list[int] = []
    for index in wanted:
        tried = sorted([*chosen, index])
        needed = Measurement.get(console, console.options.update(max_width=10_000), _drawn(sheet, tried)).maximum
        if needed > console.width and level(board, sheet.columns[index].key) > 1:
            break
        chosen = tried
    return chosen


def _drawn(sheet: Sheet, shown: list[int]) -> Table:
    drawn = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for index in shown:
        column = sheet.columns[index]
        heading = "\n".join([*_halves(column.heading), *([column.unit] if column.unit else [])])
        drawn.add_column(Text(heading), justify="left" if column.words else "right", vertical="bottom", no_wrap=True)
    for cells in sheet.cells:
        drawn.add_row(*(_text(cells[index]) for index in shown))
    return drawn


def _halves(heading: str) -> list[str]:
    """A heading, on two lines if it is long."""
    if len(heading) < 14 or " " not in heading:
        return [heading]
    cut = heading.index(" ", len(heading) // 3) if " " in heading[len(heading) // 3 :] else heading.index(" ")
    return [heading[:cut], heading[cut + 1 :]]


def _text(cell: Cell) -> Text:
    return Text.assemble(cell.text, (f" [{','.join(map(str, cell.notes))}]" if cell.notes else "", "dim"))
