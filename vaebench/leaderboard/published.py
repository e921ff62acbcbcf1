"""Figures that others published, beside the boards of the same data: never ranked, because not measured here."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vaebench.leaderboard.boards import BITS, ELBO, LOG_LIKELIHOOD, NLL, Board

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
        data: name and measure of the data set, as records name them.
        split: what the source says of its splits and binarization.
        family, variant: the model.
        metric: as boards name it; nats per image or bits per dimension.
        value: with the sign that boards give it: a published NLL of 88.7 is a log-likelihood of −88.7.
        spread: ± as published, with what it covers where the source says so; may be empty.
        samples: K of the estimate; None where the source does not say.
        architecture: in the words of the source.
        source: where it stands.
        known: "read" in the source itself, or "quoted by others".
    """

    data: tuple[str, str]
    split: str
    family: str
    variant: str
    metric: str
    value: float
    spread: str
    samples: int | None
    architecture: str
    source: str
    known: str


def published(board: Board) -> list[Figure]:
    """The published figures of a board's data and measure; none where its likelihoods are surrogates."""
    data = (board.data["name"], board.data["measure"])
    return [] if board.surrogate else [figure for figure in figures() if figure.data == data]


@cache
def figures() -> tuple[Figure, ...]:
    """All published figures, in the file's order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_figure(line) for line in csv.DictReader(file))


def _figure(line: Mapping[str, str]) -> Figure:
    metric, sign = AS_MEASURED[line["metric"]]
    return Figure(
        data=(line["data"], line["measure"]),
        metric=metric,
        value=sign * float(line["value"]),
        samples=int(line["samples"]) if line["samples"] else None,
        **{key: line[key] for key in ("split", "family", "variant", "spread", "architecture", "source", "known")},
    )
