"""A bound on log p(x) from a Gaussian fitted to each image: for models without a density of q, and as a check."""

from __future__ import annotations

from typing import Any

from vaebench.errors import Unavailable
from vaebench.evaluation.estimators.weights import FEWEST, TRUSTED
from vaebench.evaluation.measurements import _shared as _runs
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

HOW = (
    "a diagonal Gaussian around the code, not the encoder's q(z|x): fitted to each image's ELBO at evaluation by "
    "{steps} steps of Adam with {samples} samples; mean on {n} of the test images"
)

KINDS = {
    "log_likelihood_fitted": MetricKind(
        "nats", True, f"importance-weighted lower bound L_K of log p(x), K = {{k}}, from {HOW}"
    ),
    "elbo_fitted": MetricKind("nats", True, f"ELBO, mean of {{k}} samples, of {HOW}"),
    "ess_fitted": MetricKind(
        "samples", True, f"effective sample size (Σw)²/Σw² of K = {{k}} importance weights from {HOW}"
    ),
    "pareto_k_fitted": MetricKind(
        "", False, f"shape k̂ of the tail of K = {{k}} importance weights (Vehtari et al. 2024) from {HOW}"
    ),
}


def measure(
    subject: Subject, findings: Findings, images: int = 100, k: int = 1000, steps: int = 300, samples: int = 16
) -> None:
    """The bound of a posterior fitted at evaluation, under its own name: the model's bound with a better encoder.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: test images with a fitted Gaussian.
        k: importance samples per image, drawn after the fit.
        steps: of Adam.
        samples: per image and step.
    """
    fill: dict[str, Any] = {"n": len(subject.some(images)), "k": k, "steps": steps, "samples": samples}
    with findings.attempt(*KINDS, **fill):
        _runs.require_fit(subject)
        fits = _runs.gaussians(subject, images, k, steps, samples).fits
        findings.average("log_likelihood_fitted", fits.log_likelihood, keep=False, **fill)
        findings.average("elbo_fitted", fits.elbo, keep=False, **fill)
        findings.average("ess_fitted", fits.ess, keep=False, **fill)
        if k < FEWEST:
            raise Unavailable(f"{k} samples have no tail to fit: k of at least {FEWEST} is needed")
        findings.average("pareto_k_fitted", fits.pareto_k, keep=False, **fill)
        if strange := int((fits.pareto_k > TRUSTED).sum()):
            findings.warnings.append(
                f"the fitted log-likelihood of {strange} of {fill['n']} images is not to be trusted: the largest of "
                f"their {k} importance weights outweigh the rest (Pareto k̂ > 0.7), so that it is likely too low; take "
                "a larger fitted.k, or bracket it with the measurement 'ais'"
            )
