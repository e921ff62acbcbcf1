"""How far a training is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from vaebench.curves import BOUND, VAL
from vaebench.terminal import progress_bar

PARTS = ("rate", "distortion")  # of the bound


@contextmanager
def training_bar(
    title: str, enabled: bool = True, console: Console | None = None
) -> Iterator[Callable[[float, Mapping[str, float]], None]]:
    """A bar for one training: the `progress` of `vaebench.training.solo.train`."""
    with progress_bar(title, enabled, console) as bar:
        highest: float | None = None

        def update(fraction: float, metrics: Mapping[str, float]) -> None:
            nonlocal highest
            bound = metrics.get(BOUND)
            if bound is None:
                bar.advance(fraction)
                return
            highest = bound if highest is None else max(bound, highest)
            best = f" (highest {highest:.2f})" if highest > bound else ""
            rest = [f"{name} {metrics[f'{VAL}{name}']:.1f}" for name in PARTS if f"{VAL}{name}" in metrics]
            bar.advance(fraction, ", ".join([f"held-out bound {bound:.2f} nats{best}", *rest]))

        yield update
