"""What commands write to the terminal: tables, and bars while something takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

WIDTH = 200  # of whole lines in a file or a pipe


def wide(console: Console | None = None) -> Console:
    """The console, by default of the standard output; wide enough for whole lines where it is no terminal."""
    console = console or Console()
    return console if console.is_terminal else Console(file=console.file, width=WIDTH)


class Bar(NamedTuple):
    """A progress bar.

    Attributes:
        begin: names what is at work, of which nothing is done.
        advance: takes the fraction of it that is done, and, where there is one, a note beside the bar.
    """

    begin: Callable[[str], None]
    advance: Callable[..., None]


@contextmanager
def progress_bar(title: str = "", enabled: bool = True, console: Console | None = None) -> Iterator[Bar]:
    """A bar that is gone when the block ends; nothing is drawn where there is no terminal.

    Args:
        title: what is at work.
        enabled: whether to draw it.
        console: where; default: the standard error.
    """
    console = console or Console(stderr=True)
    words = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    note = TextColumn("{task.fields[note]}")
    shown = enabled and console.is_terminal
    with Progress(*words, note, console=console, disable=not shown, transient=True) as progress:
        task = progress.add_task(title, total=1.0, note="")
        yield Bar(
            lambda name: progress.reset(task, description=name, note=""),
            lambda done, note="": progress.update(task, completed=done, note=note),
        )
