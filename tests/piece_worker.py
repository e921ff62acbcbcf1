"""A process that works through the pieces of a store, and may stop for good at one of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from vaebench.evaluation.store import Pieces, Store


def work(folder: Path, log: Path, stop_at: str | None) -> None:
    """Squares 0 to 19, and notes its id in a file of each that it begins."""
    pieces = Pieces(Store(folder), [f"piece-{i}" for i in range(20)])
    for name in pieces:
        index = name.removeprefix("piece-")
        with (log / index).open("a") as file:
            file.write(f"{os.getpid()}\n")
        if index == stop_at:
            time.sleep(600)
        pieces[name] = {"square": np.array(int(index) ** 2)}
    assert [int(piece["square"]) for piece in pieces.finished()] == [i**2 for i in range(20)]
