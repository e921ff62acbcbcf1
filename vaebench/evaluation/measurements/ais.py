"""log p(x) by annealed importance sampling, compared with L_K, and its gap on images whose code is known."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vaebench.errors import absence
from vaebench.evaluation.estimators.ais import AnnealingSettings
from vaebench.evaluation.estimators.hmc import ChainStart
from vaebench.evaluation.estimators.likelihood import estimate
from vaebench.evaluation.measurements import _shared as _runs
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

LOOSE = 1.0  # nats; a larger gap raises a warning
NOTABLE = 0.1  # nats above L_K, and two standard errors, that raise a warning

HOW = "{chains} chains of {temperatures} temperatures from the {start}, {leapfrog} leapfrog steps each"
SOME = "on {n} of the test images"
MADE = "on {simulated} images that the model itself makes up"

KINDS = {
    "log_likelihood_ais": MetricKind(
        "nats",
        True,
        "log p(x) by annealed importance sampling (Neal 2001; Wu et al. 2017, arXiv:1611.04273), log of the mean "
        f"weight of {HOW}; a lower bound in expectation; mean {SOME}",
    ),
    "ais_excess": MetricKind(
        "nats",
        None,
        f"log_likelihood_ais less L_K with K = {{k}} samples of q(z|x), {SOME}; positive where L_K is too low",
    ),
    "ais_gap": MetricKind(
        "nats",
        False,
        "upper less lower bound of log p(x) by chains down from an exact sample of p(z|x) and up to it (Grosse et al. "
        f"2015, arXiv:1511.02543), {HOW}, mean {MADE}; the bias of either bound is at most this in expectation",
    ),
    "ais_ess": MetricKind("chains", True, f"effective sample size (Σw)²/Σw² of an image's chains, {HOW}; mean {SOME}"),
    "ais_acceptance": MetricKind(
        "", None, f"acceptance probability of the Hamiltonian transitions, {HOW}; mean {SOME}"
    ),
}


def measure(
    subject: Subject,
    findings: Findings,
    images: int = 100,
    simulated: int = 50,
    k: int = 5000,
    chains: int = 16,
    temperatures: int = 400,
    leapfrog: int = 3,
    start: ChainStart = "prior",
) -> None:
    """Brackets log p(x); needs only the prior and the likelihood where chains start from the prior.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: test images with chains.
        simulated: images sampled from the model, on which the gap is measured.
        k: importance samples of L_K on the same images, for comparison.
        chains: per image.
        temperatures: transitions of a chain.
        leapfrog: steps of a transition.
        start: distribution at the start of the path: 'prior' or 'posterior'.
    """
    settings = AnnealingSettings(chains, temperatures, leapfrog, start).checked()
    some = subject.some(images)
    fill = {**settings._asdict(), "n": len(some), "simulated": simulated, "k": k}
    with findings.attempt(*KINDS, **fill):
        _runs.require_chain_latents(subject, start)
        up = _runs.chains(subject, images, settings)
        findings.average("log_likelihood_ais", up.lower, keep=False, **fill)
        findings.average("ais_ess", up.ess, keep=False, **fill)
        findings.average("ais_acceptance", up.acceptance, keep=False, **fill)
        table = {"image": some.tolist(), "log_likelihood_ais": up.lower.tolist()}
        findings.tables["ais"] = table
        if subject.no_density is None:
            bound = estimate(subject.model, subject.raw[some], k, subject.seed).log_likelihood
            table["log_likelihood"] = bound.tolist()
            _add_excess(findings, up.lower - bound, fill)
        else:
            findings.missing("ais_excess", subject.no_density, **fill)
        with findings.attempt("ais_gap", **fill):
            _add_gap(subject, findings, simulated, settings, fill)


def _add_excess(findings: Findings, excess: Tensor, fill: dict[str, Any]) -> None:
    findings.average("ais_excess", excess, keep=False, **fill)
    value, se = findings.metrics["ais_excess"].value, findings.metrics["ais_excess"].se
    if value is not None and value > max(NOTABLE, 2 * (se or 0)):
        findings.warnings.append(
            f"annealed importance sampling finds log p(x) to be {value:.2f} nats above L_K on {fill['n']} images, "
            f"with K = {fill['k']}: q(z|x) misses part of p(z|x), and the log-likelihood is too low by at least that"
        )


def _add_gap(
    subject: Subject, findings: Findings, simulated: int, settings: AnnealingSettings, fill: dict[str, Any]
) -> None:
    with absence("the prior or the likelihood cannot be sampled"):
        both = _runs.brackets(subject, simulated, settings)
    findings.average("ais_gap", both.upper - both.lower, keep=False, **fill)
    findings.tables["ais_simulated"] = {"lower": both.lower.tolist(), "upper": both.upper.tolist()}
    value = findings.metrics["ais_gap"].value
    if value is not None and value > LOOSE:
        findings.warnings.append(
            f"the bounds of annealed importance sampling lie {value:.2f} nats apart on images whose code is known: "
            "log_likelihood_ais may be too low by as much; raise ais.temperatures"
        )
