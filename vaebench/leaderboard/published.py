"""Figures that others published, beside the boards of the same data: never ranked, because not measured here."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.comparable import BITS, ELBO, LOG_LIKELIHOOD, NLL

FILE = Path(__file__).with_name("published.csv")
AS_MEASURED = {  # what a board calls it, and the factor to it
    NLL: (LOG_LIKELIHOOD, -1),
    "negative_elbo": (ELBO, -1),
    BITS: (BITS, 1),
    "active_units": ("active_units", 1),
}


@dataclass(frozen=True)
class Figure:
    """One published figure.

    Attributes:
        id: by which benchmarks name it.
        data: name and measure of the data set, as records name them.
        surrogate: what was measured is no likelihood of such images.
        split: what the source says of its splits and binarization.
        family, variant: the model.
        metric: as boards name it; nats per image or bits per dimension.
        value: with the sign that boards give it: a published NLL of 88.7 is a log-likelihood of −88.7.
        written: the figure as it was published, with its decimals.
        spread: ± as published, with what it covers where the source says so; may be empty.
        trainings: of which `spread` is the standard deviation, or 3 where the source says that it is over trainings and
            their number, at least 3, was not looked up; None where there are not several.
        samples: K of the estimate; None where the source does not say.
        architecture: in the words of the source.
        source: where it stands.
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
    """The published figures of a board's data and measure: likelihoods beside likelihoods, surrogates beside theirs."""
    data = (board.data["name"], board.data["measure"])
    return [figure for figure in figures() if (figure.data, figure.surrogate) == (data, board.surrogate)]


@cache
def figures() -> tuple[Figure, ...]:
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
