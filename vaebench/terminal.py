"""Terminal output: consoles and progress bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

WIDTH = 200  # columns in a file or a pipe


def standard_console(stderr: bool = False) -> Console:
    """A console of the standard output, or of the standard error.

    It is a terminal if the stream is one. FORCE_COLOR, which Jupyter sets for the commands of a cell, does not count:
    bars that are drawn over and over would fill the cell.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, force_terminal=stream.isatty())


def wide(console: Console | None = None) -> Console:
    """The console, by default of the standard output; `WIDTH` columns wide unless it is a terminal."""
    found = console or standard_console()
    return found if found.is_terminal else Console(file=found.file, width=WIDTH, force_terminal=False)


class Bar(NamedTuple):
    """A progress bar.

    Attributes:
        begin: starts a task by its name.
        advance: sets the fraction of the task that is done, and optionally a note.
    """

    begin: Callable[[str], None]
    advance: Callable[..., None]


@contextmanager
def progress_bar(title: str = "", enabled: bool = True, console: Console | None = None) -> Iterator[Bar]:
    """A transient progress bar, on terminals only.

    Args:
        title: of the task.
        enabled: whether to draw it.
        console: of the bar; default: the standard error.
    """
    console = console or standard_console(stderr=True)
    words = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    note = TextColumn("{task.fields[note]}")
    shown = enabled and console.is_terminal
    with Progress(*words, note, console=console, disable=not shown, transient=True) as progress:
        task = progress.add_task(title, total=1.0, note="")
        yield Bar(
            lambda name: progress.reset(task, description=name, note=""),
            lambda done, note="": progress.update(task, completed=done, note=note),
        )
