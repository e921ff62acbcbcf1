"""What the terminal shows while something takes long; nothing at all where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def training_bar(
    title: str, enabled: bool = True, console: Console | None = None
) -> Iterator[Callable[[float, Mapping[str, float]], None]]:
    """A bar for one training, as the function that `Experiment.run` calls with the fraction done and the metrics."""
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[bound]}"),
    )
    with Progress(*columns, console=console, disable=not (enabled and console.is_terminal), transient=True) as progress:
        task = progress.add_task(title, total=1.0, bound="")

        def update(fraction: float, metrics: Mapping[str, float]) -> None:
            bound = metrics.get("val/elbo")
            progress.update(task, completed=fraction, bound="" if bound is None else f"held-out bound {bound:.2f} nats")

        yield update
