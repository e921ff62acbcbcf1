"""Posterior collapse: the verdict, with the units that carry nothing and the part to suspect."""

from __future__ import annotations

from vaebench.evaluation.estimators.collapse import collapse, shuffle_drops
from vaebench.evaluation.estimators.levels import sizes
from vaebench.evaluation.metrics import Findings, Kind
from vaebench.evaluation.subject import Subject

LABELLED = True  # conditional models are told the labels
KINDS: dict[str, Kind] = {}


def measure(subject: Subject, found: Findings) -> None:
    """The verdict of `estimators.collapse`, and how far log p(x|z) falls when each unit is shuffled.

    Args:
        subject: the model and its images.
        found: is filled.
    """
    if len(subject.raw) < 2:
        sentence = "one image alone cannot show posterior collapse"
        found.tables["collapse"] = {"verdict": "unknown", "units": [], "sentence": sentence}
        return
    drops = shuffle_drops(subject.model, subject.x, subject.seed)
    found.units["decoder_drop"] = drops.units.tolist()
    found.tables["collapse"] = collapse(subject.latents, drops, sizes(subject.model, subject.x))
