"""Scalars of a record under loggers' names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vaebench.curves import BOUND, LOG_X
from vaebench.records import RunRecord


def logged_figures(record: RunRecord) -> dict[str, Any]:
    """Every scalar of a record by name; docs/wandb.md lists them.

    Metrics are `test/NAME`, their standard errors over images `test/NAME_se`, and reasons of missing ones
    `unavailable/NAME`; then held-out metrics of the measured weights, the verdict on collapse, cost, times and
    environment.
    """
    figures: dict[str, Any] = {}
    for name, metric in record.metrics.items():
        if metric.get("value") is None:
            figures[f"unavailable/{name}"] = record.reason(name)
        else:
            figures[f"test/{name}"] = metric["value"]
            if metric.get("se") is not None:
                figures[f"test/{name}_se"] = metric["se"]
    for curve in (BOUND, LOG_X):
        if (value := record.held_out(curve)) is not None:
            figures[f"held_out/{curve[4:]}"] = value
    figures["collapse/verdict"] = str(record.collapse.get("verdict", "unknown"))
    figures["collapse/sentence"] = str(record.collapse.get("sentence", ""))
    figures["collapse/units"] = len(record.collapse.get("units") or [])
    for part, content in (("cost", record.cost), ("times", record.times), ("environment", record.environment)):
        figures |= {f"{part}/{name}": value for name, value in content.items() if isinstance(value, str | int | float)}
    if record.warnings:
        figures["warnings"] = "\n".join(map(str, record.warnings))
    return figures


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The finite values."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
