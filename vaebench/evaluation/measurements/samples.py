"""What the model dreams up, as a picture."""

from __future__ import annotations

from contextlib import suppress

from vaebench.evaluation.metrics import Findings, Kind
from vaebench.evaluation.pictures import sample_grid
from vaebench.evaluation.subject import Subject

KINDS: dict[str, Kind] = {}


def measure(subject: Subject, found: Findings) -> None:
    """The means of p(x|z), or draws where it has none, for samples z of the prior; no picture where there are neither.

    Args:
        subject: the model and its images.
        found: is filled.
    """
    with suppress(NotImplementedError):
        found.pictures["samples"] = sample_grid(subject.model)
