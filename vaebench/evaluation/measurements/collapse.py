"""Posterior collapse: the verdict with the collapsed units and the likely cause."""

from __future__ import annotations

from contextlib import suppress

from vaebench.errors import Unavailable, absence
from vaebench.evaluation.estimators.collapse import collapse, encoder_signs, shuffle_drops, unseen
from vaebench.evaluation.estimators.levels import sizes
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

LABELLED = True  # supports conditional models
KINDS: dict[str, MetricKind] = {}


def measure(subject: Subject, findings: Findings) -> None:
    """The verdict of `estimators.collapse`, and the drop of log p(x|z) when each unit is shuffled.

    Args:
        subject: the model and its images.
        findings: receives the figures.
    """
    if len(subject.raw) < 2:
        findings.tables["collapse"] = unseen()
        return
    try:
        drops = shuffle_drops(subject.model, subject.x, subject.seed)
    except Unavailable as error:
        findings.tables["collapse"] = {"verdict": "unknown", "units": [], "sentence": f"it cannot be told: {error}"}
        return
    findings.units["decoder_drop"] = drops.units.tolist()
    signs = encoder_signs(subject.latents, drops.shuffled)
    findings.tables["collapse"] = collapse(signs, drops, _levels(subject))


def _levels(subject: Subject) -> tuple[int, ...] | None:
    """Units of every level of a hierarchy; None without one, or without a prior."""
    with suppress(Unavailable), absence():
        return sizes(subject.model, subject.x)
    return None
