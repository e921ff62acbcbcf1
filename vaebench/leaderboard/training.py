"""Length of a training: epochs, steps and images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from vaebench.records import RunRecord


class Training(NamedTuple):
    """The budget of a training.

    epochs: passes over the training images. steps: batches. images: seen in training, repetitions included.
    """

    epochs: float
    steps: int
    images: int


def trained(record: RunRecord) -> Training | None:
    """The training budget of a run; None where its record has none, as for models trained elsewhere."""
    steps, size = record.measured.of if record.measured else None, record.data.get("sizes", {}).get("train")
    batch = record.config.get("data", {}).get("init_args", {}).get("batch_size")
    if not (steps and isinstance(size, int) and isinstance(batch, int) and size > 0 and batch > 0):
        return None
    batches = math.ceil(size / batch)  # the last one of an epoch may be smaller
    whole, rest = divmod(steps, batches)
    return Training(steps / batches, steps, whole * size + rest * batch)


def epochs(number: float) -> str:
    """A number of epochs as text, with decimals where it is not whole.

    >>> epochs(20.0), epochs(0.9597)
    ('20', '0.96')
    """
    return f"{number:.0f}" if number >= 10 or number == round(number) else f"{number:.2g}"


def span(trainings: Iterable[Training | None]) -> list[str]:
    """The distinct numbers of epochs among runs, ascending, as text."""
    numbers = sorted({training.epochs for training in trainings if training is not None})
    return list(dict.fromkeys(map(epochs, numbers)))
