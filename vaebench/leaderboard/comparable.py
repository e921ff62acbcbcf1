"""What runs must have in common for a figure of theirs to be compared: data, and how that figure was estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vaebench.configuration.discovery import measurement_of
from vaebench.records import RunRecord

LOG_LIKELIHOOD, ELBO, NLL, BITS = "log_likelihood", "elbo", "nll", "bits_per_dim"
LIKELIHOOD = "likelihood"  # the measurement whose settings records of version 1 had at the top of their protocol
EQUIVALENT = {2: 1}  # versions of the protocols under which no figure was defined otherwise than under the other
FORMER = {LIKELIHOOD: {"k": None, "precision": "f32", "proposal": "encoder"}}  # settings before there was a choice
REFINED = {"log_likelihood": 2}  # versions of figures by proposals that are refined for each image
ELSEWHERE = ("seed", "limit", "name", "k", "precision", "compiled", "version", "measurements")  # or of no account
ROUNDING = {LIKELIHOOD: ("compile", "corrections", "bracket")}  # settings that leave other figures as they are


def comparable(record: RunRecord, figure: str) -> dict[str, Any]:
    """What runs must have in common to share a board of a figure; what else a protocol measured does not matter."""
    return {
        "data": {name: record.data.get(name) for name in ("name", "measure", "shape", "hashes")},
        "estimator": estimator(record, figure),
        "surrogate": record.surrogate,
    }


def estimator(record: RunRecord, figure: str) -> dict[str, Any]:
    """How a figure was estimated: on which images, by which definition, and with which settings.

    Version 2 of the protocols drew the noise of importance samples in other blocks than version 1, and defined all
    figures as before: the two are equivalent. A figure that is defined anew has a version of its own.
    """
    protocol, version = record.protocol, record.protocol.get("version", 1)
    rest = {key: value for key, value in protocol.items() if key not in ELSEWHERE}  # n, and what a model was given
    return {
        **{"split": "test", **rest},
        "protocols": EQUIVALENT.get(version, version),
        "version": _version(record, computed_from(figure)),
        **_settings(protocol, computed_from(figure)),
    }


def _version(record: RunRecord, figure: str) -> int:
    """Of the definition; where a bound stands in for a refined estimate, that of the estimate that was asked for.

    Such runs share its board, without a rank (`trust.py`).
    """
    if figure in REFINED and record.tables.get("proposal", {}).get("used") == "encoder":
        return REFINED[figure]
    return int(record.metrics.get(figure, {}).get("version", 1))


def _settings(protocol: Mapping[str, Any], figure: str) -> dict[str, Any]:
    """Those of the measurement that gives a figure; of all measurements where none is known to."""
    name, measured = measurement_of(figure), protocol.get("measurements")
    if measured is None:
        measured = {LIKELIHOOD: {key: protocol[key] for key in FORMER[LIKELIHOOD] if key in protocol}}
    if name is None:
        return {"measurements": measured}
    settings = {**FORMER.get(name, {}), **measured.get(name, {})}
    return {key: value for key, value in settings.items() if key not in ROUNDING.get(name, ())}


def in_units(record: RunRecord, score: str) -> float:
    """Nats in one unit of a score: for bits/dim, ln 2 times the number of values of an image."""
    return math.prod(record.data["shape"]) * math.log(2) if score == BITS else 1.0


def computed_from(figure: str) -> str:
    """The figure of every image that another one is computed from: of the NLL and of bits/dim, the log-likelihood."""
    return LOG_LIKELIHOOD if figure in (NLL, BITS) else figure
