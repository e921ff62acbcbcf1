"""Latent units: how many are active, and what each costs."""

from __future__ import annotations

from vaebench.evaluation.latents import THRESHOLDS, active_units
from vaebench.evaluation.metrics import Findings, Kind
from vaebench.evaluation.subject import Subject

KINDS = {
    "active_units": Kind("units", True, "units with Var_x(E_q[z]) > {threshold}, unbiased, out of {units}"),
}


def measure(subject: Subject, found: Findings) -> None:
    """Active units (Burda et al. 2016) at three thresholds, and the rate and the mean's variance of every unit.

    Args:
        subject: the model and its images.
        found: is filled.
    """
    latents, n = subject.latents, len(subject.raw)
    mean = latents.mean
    for threshold in THRESHOLDS:
        name = "active_units" if threshold == 0.01 else f"active_units_{threshold}"
        if mean is None or n < 2:
            reason = latents.why.get("mean", "one image has no variance")
            units = None if mean is None else mean.shape[1]
            found.missing(name, reason, "active_units", threshold=threshold, units=units)
        else:
            count = active_units(mean, threshold)
            found.single(name, count, n, kind="active_units", threshold=threshold, units=mean.shape[1])
    if latents.kl is not None:
        found.units["kl"] = latents.kl.mean(0).tolist()
    if mean is not None and n > 1:
        found.units["mean_variance"] = mean.var(0).tolist()
