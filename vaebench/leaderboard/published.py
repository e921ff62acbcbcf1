"""Published figures, shown with the boards of the same data but not ranked, since they were not measured here."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.comparable import BITS, ELBO, LOG_LIKELIHOOD, NLL

FILE = Path(__file__).with_name("published.csv")
AS_MEASURED = {  # name of the metric on boards, and conversion factor
    NLL: (LOG_LIKELIHOOD, -1),
    "negative_elbo": (ELBO, -1),
    BITS: (BITS, 1),
    "active_units": ("active_units", 1),
}


@dataclass(frozen=True)
class Figure:
    """One published figure.

    Attributes:
        id: name for benchmarks.
        data: name and measure of the data set, as in records.
        surrogate: the metric is not a likelihood of such images.
        split: the source's description of splits and binarization.
        family, variant: the model.
        metric: as on boards; nats per image or bits per dimension.
        value: with the sign of boards: a published NLL of 88.7 is a log-likelihood of −88.7.
        written: the figure as published, with its decimals.
        spread: ± as published, with its meaning where the source states it; may be empty.
        trainings: number of trainings behind `spread`, a standard deviation; 3 where the source has at least 3 and
            their number was not looked up; None for a single training.
        samples: K of the estimate; None where the source does not state it.
        architecture: as in the source.
        source: its address, with table or section.
        known: "read" in the source itself, or "quoted by others".
    """

    id: str
    data: tuple[str, str]
    surrogate: bool
    split: str
    family: str
    variant: str
    metric: str
    value: float
    written: str
    spread: str
    trainings: int | None
    samples: int | None
    architecture: str
    source: str
    known: str


def published(board: Board) -> list[Figure]:
    """The published figures for a board's data and measure; surrogates only for boards of surrogates."""
    data = (board.data["name"], board.data["measure"])
    return [figure for figure in published_figures() if (figure.data, figure.surrogate) == (data, board.surrogate)]


@cache
def published_figures() -> tuple[Figure, ...]:
    """All published figures, in the file's order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_figure(line) for line in csv.DictReader(file))


def _figure(line: Mapping[str, str]) -> Figure:
    metric, sign = AS_MEASURED[line["metric"]]
    return Figure(
        data=(line["data"], line["measure"]),
        surrogate=line["surrogate"] == "yes",
        metric=metric,
        value=sign * float(line["value"]),
        written=line["value"],
        trainings=int(line["trainings"]) if line["trainings"] else None,
        samples=int(line["samples"]) if line["samples"] else None,
        **{key: line[key] for key in ("id", "split", "family", "variant", "spread", "architecture", "source", "known")},
    )
