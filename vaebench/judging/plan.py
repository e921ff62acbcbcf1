"""The questions of each judge: blind, in random order, with every run, pair and side equally often."""

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
    """The study of one file, common to all judges.

    Attributes:
        runs: digests of the records.
        shown: one of `SHOWN`.
        kinds: of questions, in their order.
        rounds: number of questions about every pair or run, for each judge.
        seed: of the order, the sides and the images.
        images: number of images of every run.
        originals: number of test images.
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
    """One image of a run, an index of `Study.runs`, or of the test set where that is None."""

    run: int | None
    image: int


@dataclass(frozen=True)
class Question:
    """One question: its kind, and one or two images in their order on the page."""

    kind: str
    slots: tuple[Slot, ...]


def questions(study: Study, judge: int) -> list[Question]:
    """All questions of one judge, a deterministic function of the study.

    Each round has every pair once ('choice'), every run once ('rating'), or every run once and as many test images
    ('real'), in random order. The sides of a pair alternate between rounds and judges. An image of a run repeats only
    after all others.

    Args:
        study: the study.
        judge: 0, 1, … in the order of enrolment.
    """
    rng = random.Random(f"{study.seed} {judge}")
    decks = {run: _deck(rng, study.images) for run in range(len(study.runs))}
    originals, shared = _deck(rng, study.originals), _deck(rng, study.images)

    def choice(number: int) -> list[Question]:
        pairs = []
        for place, pair in enumerate(combinations(range(len(study.runs)), 2)):
            same = next(shared) if study.shown == "reconstructions" else None
            slots = [Slot(run, next(decks[run]) if same is None else same) for run in pair]
            turned = (place + number + judge) % 2 == 1
            pairs.append(Question(CHOICE, tuple(slots[::-1] if turned else slots)))
        return pairs

    def alone(kind: str) -> list[Question]:
        return [Question(kind, (Slot(run, next(decks[run])),)) for run in range(len(study.runs))]

    sequence = []
    for kind in study.kinds:
        for number in range(study.rounds):
            one = choice(number) if kind == CHOICE else alone(kind)
            if kind == REAL:
                one += [Question(REAL, (Slot(None, next(originals)),)) for _ in study.runs]
            rng.shuffle(one)
            sequence += one
    return sequence


def _deck(rng: random.Random, size: int) -> Iterator[int]:
    """Endless random permutations of 0 … size − 1."""
    while True:
        cards = list(range(size))
        rng.shuffle(cards)
        yield from cards
