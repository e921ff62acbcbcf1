"""The gap of the bound, split into an amortisation gap and an approximation gap."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

from vaebench.evaluation.estimators.ais import AnnealingSettings
from vaebench.evaluation.estimators.likelihood import Estimates, estimate
from vaebench.evaluation.measurements import _shared as _runs
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

SOURCE = "(Cremer, Li & Duvenaud 2018, arXiv:1801.03558); mean on {n} of the test images"
BEST = "log p̂(x), the least noisy of those among {estimators} that are not clearly below the highest"
GAUSSIAN = "the diagonal Gaussian q* fitted to each image"
FLOW = "the flow q* (full covariance and affine couplings) fitted to each image"

KINDS = {
    "log_likelihood_best": MetricKind("nats", True, f"{BEST}; mean on {{n}} of the test images"),
    "inference_gap": MetricKind("nats", False, f"{BEST}, less ELBO(q(z|x)) {SOURCE}"),
    "approximation_gap": MetricKind("nats", False, f"{BEST}, less ELBO(q*) of {GAUSSIAN} {SOURCE}"),
    "amortisation_gap": MetricKind(
        "nats",
        False,
        f"ELBO(q*) of {GAUSSIAN}, less ELBO(q(z|x)); negative where q(z|x) is richer than a Gaussian {SOURCE}",
    ),
    "approximation_gap_flow": MetricKind("nats", False, f"{BEST}, less ELBO(q*) of {FLOW} {SOURCE}"),
    "amortisation_gap_flow": MetricKind("nats", False, f"ELBO(q*) of {FLOW}, less ELBO(q(z|x)) {SOURCE}"),
}


def measure(
    subject: Subject,
    findings: Findings,
    images: int = 100,
    k: int = 1000,
    steps: int = 300,
    samples: int = 16,
    chains: int = 16,
    temperatures: int = 400,
    leapfrog: int = 3,
) -> None:
    """The gap between log p(x) and the ELBO, and its two parts, by a Gaussian and by a flow fitted to each image.

    With the settings of 'fitted' and 'ais' it reuses their runs.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: number of test images.
        k: samples per image of each ELBO and each L_K.
        steps: of Adam, for each fit.
        samples: per image and step.
        chains: per image.
        temperatures: transitions of a chain.
        leapfrog: steps of a transition.
    """
    settings = AnnealingSettings(chains, temperatures, leapfrog).checked()
    some = subject.some(images)
    names = f"L_{k} from q(z|x), the fitted Gaussian and the fitted flow, and annealed importance sampling"
    fill: dict[str, Any] = {"n": len(some), "estimators": names}
    with findings.attempt(*KINDS, **fill):
        _runs.require_fit(subject)
        gaussian, start, _ = _runs.gaussians(subject, images, k, steps, samples)
        flow = _runs.flows(subject, images, k, steps, samples)
        up = _runs.chains(subject, images, settings)
        estimates = {
            "gaussian": _estimate(gaussian.log_likelihood, gaussian.ess, k),
            "flow": _estimate(flow.log_likelihood, flow.ess, k),
            "ais": _estimate(up.lower, up.ess, chains),
        }
        encoder: Tensor | None = None
        if subject.no_density is None:
            drawn = estimate(subject.model, subject.raw[some], k, subject.seed)
            estimates["encoder"] = _estimate(drawn.log_likelihood, drawn.ess, k)
            encoder = _bound(drawn) if start is None else start.elbo  # under the fits' noise where possible
        best = highest(estimates)
        _add_gaps(
            findings, estimates[best].values, encoder, {"": gaussian.elbo, "_flow": flow.elbo}, subject.no_density, fill
        )
        findings.tables["gaps"] = {
            "best": best,
            "log_likelihood": {name: float(each.values.mean()) for name, each in estimates.items()},
            "elbo": {"gaussian": float(gaussian.elbo.mean()), "flow": float(flow.elbo.mean())}
            | ({} if encoder is None else {"encoder": float(encoder.mean())}),
        }


class LikelihoodEstimate(NamedTuple):
    """Estimates of log p(x), nats, (n,), and the variance that their samples leave in the mean, nats²."""

    values: Tensor
    variance: float


def highest(estimates: dict[str, LikelihoodEstimate]) -> str:
    """The estimator with the least Monte Carlo error among those within two standard errors of the highest mean.

    All are lower bounds in expectation; the maximum of noisy means would not be.
    """
    top = max(estimates.values(), key=lambda estimate: float(estimate.values.mean())).values
    falls = {name: top - estimate.values for name, estimate in estimates.items()}
    near = [
        name
        for name, fall in falls.items()
        if float(fall.mean()) <= 2 * float(fall.std(correction=0)) / math.sqrt(len(fall))
    ]
    return min(near or estimates, key=lambda name: estimates[name].variance)


def _estimate(values: Tensor, ess: Tensor, samples: int) -> LikelihoodEstimate:
    return LikelihoodEstimate(values, float((1 / ess - 1 / samples).clamp(min=0).mean()) / len(ess))


def _bound(drawn: Estimates) -> Tensor:
    return -(drawn.rate + drawn.distortion)


def _add_gaps(
    findings: Findings,
    best: Tensor,
    encoder: Tensor | None,
    bounds: dict[str, Tensor],
    reason: str | None,
    fill: dict[str, Any],
) -> None:
    findings.average("log_likelihood_best", best, keep=False, **fill)
    for end, bound in bounds.items():
        findings.average(f"approximation_gap{end}", best - bound, keep=False, **fill)
        if encoder is None:
            findings.missing(f"amortisation_gap{end}", reason or "", **fill)
        else:
            findings.average(f"amortisation_gap{end}", bound - encoder, keep=False, **fill)
    if encoder is None:
        findings.missing("inference_gap", reason or "", **fill)
    else:
        findings.average("inference_gap", best - encoder, keep=False, **fill)
