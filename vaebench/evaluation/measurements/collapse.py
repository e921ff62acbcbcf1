"""Posterior collapse: the verdict with the collapsed units and the likely cause."""

from __future__ import annotations

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
    drops = shuffle_drops(subject.model, subject.x, subject.seed)
    findings.units["decoder_drop"] = drops.units.tolist()
    findings.tables["collapse"] = collapse(encoder_signs(subject.latents), drops, sizes(subject.model, subject.x))
