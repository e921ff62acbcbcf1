"""Latent units: number of active units, and the rate of each."""

from __future__ import annotations

from typing import Any

from vaebench.evaluation.conditions import for_images
from vaebench.evaluation.estimators.latents import ACTIVE, THRESHOLDS, active_units
from vaebench.evaluation.estimators.levels import IMAGES, SAMPLES, read_levels, sizes
from vaebench.evaluation.estimators.moments import Moments
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

LABELLED = True  # supports conditional models
KINDS = {
    "rate_level": MetricKind(
        "nats",
        None,
        "E[log q(z_{level}|·) − log p(z_{level}|·)], the rate of level {level} of {count} (1 is the lowest), {units} "
        "units, mean of {samples} samples on {n} of the test images",
    ),
    "active_units_level": MetricKind(
        "units",
        True,
        "units of level {level} of {count} (1 is the lowest) with Var_x(E_q[z]) > {threshold}, out of {units}; the "
        "variance without bias from two means of {samples} samples, on {n} of the test images",
    ),
    "active_units": MetricKind("units", True, "units with Var_x(E_q[z]) > {threshold}, unbiased, out of {units}"),
}


def measure(subject: Subject, findings: Findings) -> None:
    """Active units (Burda et al. 2016) at three thresholds, and the rate and the mean's variance of every unit.

    For a hierarchy also the rate and the active units of every level, and the table 'levels'.

    Args:
        subject: the model and its images.
        findings: receives the figures.
    """
    latents, n = subject.latents, len(subject.raw)
    mean = latents.mean
    for threshold in THRESHOLDS:
        name = "active_units" if threshold == ACTIVE else f"active_units_{threshold}"
        if mean is None or n < 2:
            reason = latents.why.get("mean", "one image has no variance")
            units = None if mean is None else mean.shape[1]
            findings.missing(name, reason, "active_units", threshold=threshold, units=units)
        else:
            count = active_units(Moments.of(mean), threshold)
            findings.single(name, count, n, kind="active_units", threshold=threshold, units=mean.shape[1])
    if latents.kl is not None:
        findings.units["kl"] = latents.kl.mean(0).tolist()
    if mean is not None and n > 1:
        findings.units["mean_variance"] = Moments.of(mean).variance.tolist()
    if (known := sizes(subject.model, subject.x)) is not None and n > 1:
        _add_levels(subject, findings, known)


def _add_levels(subject: Subject, findings: Findings, known: tuple[int, ...]) -> None:
    some = subject.some(IMAGES)
    levels = read_levels(for_images(subject.model, some), subject.x[some.to(subject.device)], subject.seed)
    table = []
    for i, (rate, variances) in enumerate(zip(levels.rates.T, levels.variances.split(known), strict=True), 1):
        fill: dict[str, Any] = {"level": i, "count": len(known), "units": known[i - 1], "n": len(some)}
        findings.average(f"rate_level_{i}", rate, keep=False, kind="rate_level", samples=SAMPLES, **fill)
        active = int((variances > ACTIVE).sum())
        name, kind = f"active_units_level_{i}", "active_units_level"
        findings.single(name, active, len(some), kind=kind, samples=SAMPLES // 2, threshold=ACTIVE, **fill)
        table.append({"level": i, "units": known[i - 1], "rate": float(rate.mean()), "active_units": active})
    findings.tables["levels"] = table
