"""How far a training is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from vaebench.curves import BOUND, EPOCH, SPEED, TRAIN
from vaebench.display.terminal import progress_bar

PARTS = ("rate", "distortion")  # of the bound on training images, which a validation does not take apart


@contextmanager
def training_bar(
    title: str, enabled: bool = True, console: Console | None = None
) -> Iterator[Callable[[float, Mapping[str, float]], None]]:
    """A bar for one training: the `progress` of `vaebench.training.solo.train`."""
    with progress_bar(title, enabled, console) as bar:
        highest: float | None = None

        def update(fraction: float, metrics: Mapping[str, float]) -> None:
            nonlocal highest
            words = [f"epoch {metrics[EPOCH]:.0f}"] if EPOCH in metrics else []
            if (bound := metrics.get(BOUND)) is not None:
                highest = bound if highest is None else max(bound, highest)
                best = f" (highest {highest:.2f})" if highest > bound else ""
                words.append(f"held-out bound {bound:.2f} nats{best}")
            parts = [f"{name} {metrics[f'{TRAIN}{name}']:.1f}" for name in PARTS if f"{TRAIN}{name}" in metrics]
            words += [f"in training {' and '.join(parts)}"] if parts else []
            words += [f"{metrics[SPEED]:,.0f} images/s"] if SPEED in metrics else []
            bar.advance(fraction, ", ".join(words))

        yield update
