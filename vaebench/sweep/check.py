"""Checks a sweep before its first trial: every corner of the space builds, and every metric exists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vaebench import evaluation
from vaebench.core import Family
from vaebench.curves import BOUND, LIKELIHOOD, VAL
from vaebench.data.base import ImageData
from vaebench.errors import Unavailable, UserError, unknown
from vaebench.evaluation.conditions import for_images
from vaebench.evaluation.estimators.joint import differentiable, require_gaussian
from vaebench.evaluation.protocol import opened
from vaebench.evaluation.subject import Subject
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.workers.held_out import COLLAPSE, CURVES, VERDICTS, HeldOut

if TYPE_CHECKING:
    from vaebench.training.experiment import Experiment


def check(sweep: Sweep) -> Experiment:
    """Builds every corner of the search space; returns the last of them, parsed.

    Raises:
        UserError: with the line: an unknown setting, a value of the wrong type, a metric that no protocol gives, …
    """
    from vaebench.configuration.explain import explained
    from vaebench.training.experiment import experiment
    from vaebench.training.models import build

    check_figures(sweep)
    data, refined = None, set[bool]()
    for key, point in sweep.space.probes():
        try:
            job = experiment(sweep.arguments(point, 0))
            data = data or job.build()[1]
            model = job.plain["model"]
            with explained():
                built = build(model["class_path"], data, **model["init_args"])
            refined.add(_refined(sweep, built, data))
            if len(refined) > 1:
                raise UserError(
                    f"{LIKELIHOOD} is by proposals refined for each image for some models of the space, and the "
                    f"encoder's bound for others: expected one of the two; give each a sweep, or maximise {BOUND}"
                )
        except UserError as error:
            place = _blamed(sweep, point, str(error)) or ("space", key)
            raise sweep.source.error(str(error), *place) from None
    return job


def _refined(sweep: Sweep, model: Family, data: ImageData) -> bool:
    """Whether the objective of a model is measured by proposals refined for each image."""
    protocol = evaluation.read_protocol(**sweep.protocol)
    if LIKELIHOOD not in sweep.objectives or protocol.measurements["likelihood"].get("proposal") != "refined":
        return False
    subject = Subject(model, HeldOut(data), limit=1)
    with differentiable(), suppress(Unavailable):
        require_gaussian(for_images(subject.model, slice(0, 1)), subject.whole().clone())
        return True
    return False


def _blamed(sweep: Sweep, point: Mapping[str, Any], message: str) -> tuple[str, str] | None:
    """The place in the file of the setting that a message names, the innermost first."""
    overrides = sweep.source.at("overrides") or {}
    for place, settings in (("space", point), ("overrides", overrides)):
        for key in sorted(settings, key=lambda key: -key.count(".")):
            if re.search(rf"\b{re.escape(key.rpartition('.')[2])}\b|'{re.escape(str(settings[key]))}'", message):
                return place, key
    return None


def check_figures(sweep: Sweep) -> None:
    """Refuses objectives and constraints on metrics that the protocol does not give, and pruning by another metric."""
    source = sweep.source
    try:
        made = evaluation.read_protocol(**sweep.protocol).measurements
    except UserError as error:
        raise source.error(str(error), "protocol") from None
    yielded = [f"{VAL}{name}" for kind, settings in made.items() for name in opened(kind, settings)[0].KINDS]
    known = list(dict.fromkeys([*CURVES, *([COLLAPSE] if "collapse" in made else []), *yielded]))
    for name in sweep.objectives:
        if name not in known or name == COLLAPSE:
            remedy = "" if name in known else "Objectives are figures of the validation images."
            place = next(key for key in (name, name[4:]) if key in (source.at("objectives") or {}))
            raise source.error(str(unknown("objective", name, known, remedy)), "objectives", place)
    if sweep.pruner["name"] != "none" and sweep.objectives not in ({LIKELIHOOD: "maximise"}, {BOUND: "maximise"}):
        raise source.error(
            f"pruning compares the held-out bound, and the objective is {', '.join(sweep.objectives)}: maximise "
            f"{LIKELIHOOD} or {BOUND} alone, or remove the pruner",
            "pruner",
        )
    for index, constraint in enumerate(sweep.constraints):
        if constraint.figure not in known:
            raise source.error(str(unknown("figure", constraint.figure, known)), "constraints", index)
        verdict = constraint.figure == COLLAPSE
        if verdict != isinstance(constraint.limit, str) or (verdict and constraint.limit not in VERDICTS):
            expected = f"one of {', '.join(VERDICTS)} with == or !=" if verdict else "a number"
            raise source.error(f"'{constraint}' can never hold: expected {expected}", "constraints", index)
