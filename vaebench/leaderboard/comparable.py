"""Conditions under which a metric of two runs may be compared: equal data, and equal estimators of the metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vaebench.configuration.discovery import measurement_of
from vaebench.records import RunRecord

LOG_LIKELIHOOD, ELBO, NLL, BITS = "log_likelihood", "elbo", "nll", "bits_per_dim"
LIKELIHOOD = "likelihood"  # the measurement whose settings are at the top of protocols of version 1
EQUIVALENT = {2: 1}  # protocol versions with equal definitions of all metrics
FORMER = {LIKELIHOOD: {"k": None, "precision": "f32", "proposal": "encoder"}}  # values before these settings existed
REFINED = {"log_likelihood": 2}  # versions of metrics from refined proposals
ELSEWHERE = ("seed", "limit", "name", "k", "precision", "compiled", "version", "measurements")  # compared separately
ROUNDING = {LIKELIHOOD: ("compile", "corrections", "bracket", "chunk")}  # settings without effect on the metrics


def comparable(record: RunRecord, figure: str) -> dict[str, Any]:
    """The properties that runs on one board of a metric share; other measurements of a protocol do not matter."""
    return {
        "data": {name: record.data.get(name) for name in ("name", "measure", "shape", "hashes")},
        "estimator": estimator(record, figure),
        "surrogate": record.surrogate,
    }


def estimator(record: RunRecord, figure: str) -> dict[str, Any]:
    """How a metric was estimated: images, version of the definition, and settings.

    Version 2 of the protocols draws the noise of importance samples in other blocks than version 1 but defines all
    metrics as before, so the two are equivalent. A redefined metric has a version of its own.
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
    """Version of the definition; a bound that replaces a requested refined estimate has the version of the latter.

    Such runs share its board without a rank (`trust.py`).
    """
    if figure in REFINED and record.tables.get("proposal", {}).get("used") == "encoder":
        return REFINED[figure]
    return int(record.metrics.get(figure, {}).get("version", 1))


def _settings(protocol: Mapping[str, Any], figure: str) -> dict[str, Any]:
    """The settings of the measurement that gives a metric, or of all measurements where it is unknown."""
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
    """The per-image metric that another is computed from: the log-likelihood for NLL and bits/dim."""
    return LOG_LIKELIHOOD if figure in (NLL, BITS) else figure
