"""Terminal output: consoles and progress bars."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

WIDTH = 200  # columns in a file or a pipe
EVERY, NOTEBOOK = 30.0, 5.0  # seconds between two lines of progress, without a terminal and in a notebook


def standard_console(stderr: bool = False) -> Console:
    """A console of the standard output, or of the standard error.

    It is a terminal if the stream is one. FORCE_COLOR, which Jupyter sets for the commands of a cell, does not count:
    bars that are drawn over and over would fill the cell.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, force_terminal=stream.isatty())


def wide(console: Console | None = None) -> Console:
    """The console, by default of the standard output; unless it is a terminal, as wide as COLUMNS says, or `WIDTH`."""
    found = console or standard_console()
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) else WIDTH
    return found if found.is_terminal else Console(file=found.file, width=width, force_terminal=False)


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
    """How far something is: a transient bar on a terminal, and elsewhere a line every so often.

    Args:
        title: of the task.
        enabled: whether to show it.
        console: of the bar; default: the standard error.
    """
    console = console or standard_console(stderr=True)
    if enabled and not console.is_terminal:
        lines = _Lines(title, console, NOTEBOOK if console.is_jupyter else EVERY)
        yield Bar(lines.begin, lines.advance)
        return
    words = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    note = TextColumn("{task.fields[note]}")
    with Progress(*words, note, console=console, disable=not enabled, transient=True) as progress:
        task = progress.add_task(title, total=1.0, note="")
        yield Bar(
            lambda name: progress.reset(task, description=name, note=""),
            lambda done, note="": progress.update(task, completed=done, note=note),
        )


class _Lines:
    """Lines on how far a task is, the first after `every` seconds.

    Args:
        title: of the task.
        console: where they go.
        every: seconds between two of them.
    """

    def __init__(self, title: str, console: Console, every: float) -> None:
        self.title, self.console, self.every = title, console, every
        self.last = time.monotonic()

    def begin(self, name: str) -> None:
        self.title = name

    def advance(self, done: float, note: str = "") -> None:
        if (now := time.monotonic()) - self.last >= self.every:
            self.last = now
            text = f"{self.title}: {done:.0%}{f', {note}' if note else ''}"
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)
