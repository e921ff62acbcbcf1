"""A progress bar for a training, on terminals only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from vaebench.curves import BOUND
from vaebench.terminal import progress_bar


@contextmanager
def training_bar(
    title: str, enabled: bool = True, console: Console | None = None
) -> Iterator[Callable[[float, Mapping[str, float]], None]]:
    """A bar for one training: the `progress` of `vaebench.training.solo.train`."""
    with progress_bar(title, enabled, console) as bar:

        def update(fraction: float, metrics: Mapping[str, float]) -> None:
            bound = metrics.get(BOUND)
            bar.advance(fraction, "" if bound is None else f"held-out bound {bound:.2f} nats")

        yield update
