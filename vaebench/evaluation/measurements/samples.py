"""A picture of samples from the model."""

from __future__ import annotations

from contextlib import suppress

from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import Conditioned
from vaebench.evaluation.drawing.pictures import class_grid, sample_grid
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

LABELLED = True  # supports conditional models
KINDS: dict[str, MetricKind] = {}


def measure(subject: Subject, findings: Findings) -> None:
    """Means of p(x|z), or draws where it has no mean, for samples z of the prior; no picture where it has neither.

    A conditional model gets a row for each class.

    Args:
        subject: the model and its images.
        findings: receives the figures.
    """
    with suppress(Unavailable), absence():
        if isinstance(subject.model, Conditioned):
            findings.pictures["samples"] = class_grid(subject.model)
        else:
            findings.pictures["samples"] = sample_grid(subject.model)
