"""The selection of a run's measured weights, and its sentence in records."""

from __future__ import annotations

import re
from typing import NamedTuple


class Selection(NamedTuple):
    """The selection of a run's measured weights.

    Attributes:
        kept: 'last', or 'best' by a metric of the validation images.
        step: their training step.
        of: steps of the training; None in old records without it.
        began: first step of the selection of the best; None for the last, and in old records, which began at the first.
    """

    kept: str
    step: int
    of: int | None
    began: int | None = None

    @property
    def last(self) -> bool:
        """Whether they are the weights at the end of training; True where unknown."""
        return self.of is None or self.step == self.of

    def __str__(self) -> str:
        """The sentence in a record."""
        if self.kept == "last":
            return f"last weights, step {self.step} of {self.of}"
        return (
            f"best held-out objective at its final settings, step {self.step} of {self.of}; selection began at step "
            f"{self.began}, when every schedule had ended"
        )


def parsed(sentence: str) -> Selection | None:
    """Parses a record's sentence, also of older versions; None where it has no steps.

    >>> parsed("last weights, step 782 of 782")
    Selection(kept='last', step=782, of=782, began=None)
    >>> parsed("best held-out bound, at step 391 of 782")
    Selection(kept='best', step=391, of=782, began=None)
    """
    match = re.match(r"(last|best) [^;]*?\bstep (\d+)(?: of (\d+))?(?:; selection began at step (\d+))?", sentence)
    if match is None:
        return None
    kept, step, of, began = match.groups()
    return Selection(kept, int(step), int(of) if of else None, int(began) if began else None)
