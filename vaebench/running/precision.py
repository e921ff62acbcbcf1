"""The precision of an evaluation: asked for, or the faster one on the device at hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from vaebench.core import LatentModel
from vaebench.evaluation.estimators.precision import IMAGES, measure_speed
from vaebench.evaluation.subject import Images, Subject

AUTO = "auto"


def settled(request: Mapping[str, Any], opened: Callable[[], tuple[LatentModel, Images]]) -> dict[str, Any]:
    """The arguments of `read_protocol` with the precision that is measured: 'auto' is replaced by the faster one.

    Says on stderr what was measured where the choice was open, and where bf16 was asked for and is slower.

    Args:
        request: the arguments; the precision may be 'auto'.
        opened: gives the model and its images, where something is to be measured.
    """
    if (asked := request.get("precision")) not in (AUTO, "bf16"):
        return dict(request)
    subject = Subject(*opened(), limit=IMAGES)  # with its labels, which a conditional model needs
    speed = measure_speed(subject.model, subject.x)
    if asked == AUTO:
        print(f"vaebench: {speed}: precision {speed.taken}", file=sys.stderr)
        return {**request, "precision": speed.taken}
    if speed.bf16 < 1:
        print(f"vaebench: {speed}; --precision auto takes the faster of the two", file=sys.stderr)
    return dict(request)
