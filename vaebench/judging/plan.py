"""Which questions a judge is asked: blind, in random order, every run, pair and side equally often."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

CHOICE, RATING, REAL = "choice", "rating", "real"
KINDS = (CHOICE, RATING, REAL)
SHOWN = ("samples", "reconstructions")
ANSWERS = {CHOICE: ("first", "second"), RATING: ("1", "2", "3", "4", "5"), REAL: ("real", "generated")}


@dataclass(frozen=True)
class Study:
    """What all judges of one file are asked about.

    Attributes:
        runs: digests of the records.
        shown: one of `SHOWN`.
        kinds: of questions, in the order in which they are asked.
        rounds: how often every pair or run comes, for each judge.
        seed: of the order, the sides and the images.
        images: how many there are of every run.
        originals: how many test images there are.
    """

    runs: tuple[str, ...]
    shown: str
    kinds: tuple[str, ...]
    rounds: int
    seed: int
    images: int
    originals: int


@dataclass(frozen=True)
class Slot:
    """One image: of the run of that place in `Study.runs`, or a test image where it is None."""

    run: int | None
    image: int


@dataclass(frozen=True)
class Question:
    """What is asked at once: a kind, and one image or two in their places on the page."""

    kind: str
    slots: tuple[Slot, ...]


def questions(study: Study, judge: int) -> list[Question]:
    """All questions of one judge, always the same ones.

    Each round holds every pair once ('choice'), every run once ('rating'), or every run once and as many test images
    ('real'), in random order. A pair's sides change places from round to round, and from judge to judge. No image of
    a run comes again before all have.

    Args:
        study: what is asked about.
        judge: 0, 1, … in the order in which they came.
    """
    rng = random.Random(f"{study.seed} {judge}")
    decks = {run: _deck(rng, study.images) for run in range(len(study.runs))}
    originals, shared = _deck(rng, study.originals), _deck(rng, study.images)

    def choice(number: int) -> list[Question]:
        asked = []
        for place, pair in enumerate(combinations(range(len(study.runs)), 2)):
            same = next(shared) if study.shown == "reconstructions" else None
            slots = [Slot(run, next(decks[run]) if same is None else same) for run in pair]
            turned = (place + number + judge) % 2 == 1
            asked.append(Question(CHOICE, tuple(slots[::-1] if turned else slots)))
        return asked

    def alone(kind: str) -> list[Question]:
        return [Question(kind, (Slot(run, next(decks[run])),)) for run in range(len(study.runs))]

    asked = []
    for kind in study.kinds:
        for number in range(study.rounds):
            one = choice(number) if kind == CHOICE else alone(kind)
            if kind == REAL:
                one += [Question(REAL, (Slot(None, next(originals)),)) for _ in study.runs]
            rng.shuffle(one)
            asked += one
    return asked


def _deck(rng: random.Random, size: int) -> Iterator[int]:
    """0 … size − 1 in random order, again and again."""
    while True:
        cards = list(range(size))
        rng.shuffle(cards)
        yield from cards
