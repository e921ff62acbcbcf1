"""The model's rate–distortion curve, from one annealing run."""

from __future__ import annotations

from typing import Any

from vaebench.evaluation.estimators.ais import AnnealingSettings, curve_betas
from vaebench.evaluation.estimators.moments import average
from vaebench.evaluation.measurements import _shared as _runs
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

HOW = "{chains} chains of {temperatures} temperatures, on {n} of the test images (Huang et al. 2020, arXiv:2008.06653)"

KINDS = {
    "rate_annealed": MetricKind(
        "nats",
        False,
        "upper bound on the rate of the annealed codes at β = 1, E[log p(x|z) − log w] over " + HOW,
    ),
    "distortion_annealed": MetricKind("nats", False, "−E log p(x|z) of the annealed codes at β = 1, over " + HOW),
}


def measure(
    subject: Subject,
    findings: Findings,
    images: int = 100,
    chains: int = 16,
    temperatures: int = 400,
    leapfrog: int = 3,
) -> None:
    """The curve of rate against distortion, as the rate's weight 1/β falls from infinity to 1 for each image.

    The table 'rate_distortion' has a row for each β: the codes z ~ p(z) p(x|z)^β / Z, as chains from the prior reach
    them, have the distortion −E log p(x|z) and at most the rate. With the settings of the measurement 'ais' it reuses
    that measurement's chains.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: test images with chains.
        chains: per image.
        temperatures: transitions of a chain.
        leapfrog: steps of a transition.
    """
    settings = AnnealingSettings(chains, temperatures, leapfrog).checked()
    n = len(subject.some(images))
    fill: dict[str, Any] = {"chains": chains, "temperatures": temperatures, "n": n}
    with findings.attempt(*KINDS, **fill):
        _runs.require_chain_latents(subject)
        curve = _runs.chains(subject, images, settings)
        findings.average("rate_annealed", curve.rate[:, -1], keep=False, **fill)
        findings.average("distortion_annealed", curve.distortion[:, -1], keep=False, **fill)
        rows = zip(curve_betas(temperatures), curve.rate.T, curve.distortion.T, strict=True)
        findings.tables["rate_distortion"] = [
            {
                "beta": beta,
                "rate": float(rate.mean()),
                "rate_se": average(rate)[1],
                "distortion": float(distortion.mean()),
                "distortion_se": average(distortion)[1],
            }
            for beta, rate, distortion in rows
        ]
