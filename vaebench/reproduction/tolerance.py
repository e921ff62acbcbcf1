"""Classes of agreement of a repeated metric, from the narrowest to the widest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

EQUAL, ROUNDING, PAIRED, NOISE, LOOSE, DIFFERENT = "equal", "rounding", "paired", "noise", "loose", "different"
UNCOMPARED = "not compared"
RELATIVE, SHARE, SIGMAS, SPREAD, PERCENT = 1e-4, 0.01, 4, 0.5, 5

CLASSES = {
    EQUAL: "the same bits: value, standard error and the figure of every image; or unavailable both times",
    ROUNDING: f"the root mean square over images of the difference is at most {RELATIVE:g} × |recorded|, or "
    f"{SHARE:g} standard deviations over images; without figures of every image the difference itself, or {SHARE:g} "
    "standard errors",
    PAIRED: f"the mean over images of the difference is at most {SIGMAS} of its own standard errors, and its root mean "
    f"square at most {SPREAD:g} standard deviations over images",
    NOISE: f"|difference| ≤ {SIGMAS} × √(s.e.² recorded + s.e.² now), standard errors over test images",
    LOOSE: f"it has no standard error: |difference| ≤ {PERCENT} % of |recorded|, or 1 where both are whole numbers",
    DIFFERENT: "none of these, or available once only",
    UNCOMPARED: "the record lacks it, or the definition of the figure has changed since",
}
TRAINED_AGAIN = (EQUAL, ROUNDING, NOISE, LOOSE)
SAME_WEIGHTS = (EQUAL, ROUNDING, PAIRED, LOOSE)  # equal noise as well, which leaves no chance differences


@dataclass(frozen=True)
class Finding:
    """One metric, then and now.

    Attributes:
        metric: its name.
        recorded: its value in the record; None where it was unavailable.
        measured: its value now.
        verdict: one of `CLASSES`.
        why: the reason of an unavailable one.
    """

    metric: str
    recorded: float | None
    measured: float | None
    verdict: str
    why: str = ""


def judge(
    name: str,
    recorded: Mapping[str, Any] | None,
    measured: Mapping[str, Any] | None,
    images: tuple[np.ndarray | None, np.ndarray | None],
    allowed: Sequence[str],
) -> Finding:
    """The class in `allowed` of a metric; `DIFFERENT` if it has none, `UNCOMPARED` if its definition has changed.

    Args:
        name: of the metric.
        recorded: {"value", "se", "n", "version", ...} in the record; None where it has no such metric.
        measured: the same, measured now.
        images: values of every image, (n,), in the record and now; None where there are none.
        allowed: accepted classes of agreement.
    """
    if measured is None:
        return Finding(name, None, None, DIFFERENT, "not measured now")
    if recorded is None:
        return Finding(name, None, measured.get("value"), UNCOMPARED, "not measured then")
    versions = recorded.get("version", 1), measured.get("version", 1)
    if 1 <= versions[0] < versions[1]:
        why = f"version {versions[0]} of its definition then, {versions[1]} now"
        return Finding(name, recorded.get("value"), measured.get("value"), UNCOMPARED, why)
    a, b = recorded.get("value"), measured.get("value")
    if a is None or b is None:
        reasons = [str(metric.get("unavailable") or "not measured") for metric in (recorded, measured)]
        same = a is None and b is None
        return Finding(name, a, b, EQUAL if same else DIFFERENT, reasons[1] if b is None else f"then: {reasons[0]}")
    then, now = images
    if (then is None) != (now is None):
        return Finding(name, a, b, DIFFERENT, f"figures of every image only {'now' if then is None else 'then'}")
    if then is not None and now is not None and then.shape != now.shape:
        return Finding(name, a, b, DIFFERENT, f"{len(then)} images then and {len(now)} now")
    holds = _holding(recorded, measured, None if then is None or now is None else (then, now))
    return Finding(name, a, b, next((kind for kind in allowed if holds[kind]), DIFFERENT))


def _holding(
    recorded: Mapping[str, Any], measured: Mapping[str, Any], images: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, bool]:
    """Whether each class holds, by name, both for the value and for the images."""
    a, b, errors = float(recorded["value"]), float(measured["value"]), (recorded.get("se"), measured.get("se"))
    gap = abs(b - a)
    rms, spread, own, same = gap, errors[0] or 0.0, -1.0, True
    if images is not None:
        each = images[1].astype(np.float64) - images[0]
        gap = max(gap, abs(float(each.mean())))
        rms = max(gap, float(np.sqrt(np.mean(each**2))))
        spread, own = float(images[0].std(dtype=np.float64)), float(each.std()) / math.sqrt(len(each))
        same = not each.any()
    whole = a.is_integer() and b.is_integer()
    known = errors[0] is not None and errors[1] is not None
    return {
        EQUAL: same and a == b and errors[0] == errors[1],
        ROUNDING: rms <= max(RELATIVE * abs(a), SHARE * spread),
        PAIRED: gap <= SIGMAS * own and rms <= SPREAD * spread,
        NOISE: known and gap <= SIGMAS * math.hypot(*(error or 0.0 for error in errors)),
        LOOSE: not known and gap <= max(PERCENT / 100 * abs(a), 1.0 if whole else 0.0),
    }
