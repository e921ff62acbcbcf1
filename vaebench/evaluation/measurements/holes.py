"""Match of codes and prior: holes, and distances and tests between codes and samples of the prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaebench.errors import Unavailable, UserError, absence
from vaebench.evaluation.estimators.aggregate import aggregate_densities
from vaebench.evaluation.estimators.draws import sample, sample_posterior
from vaebench.evaluation.estimators.latents import BATCH
from vaebench.evaluation.estimators.two_sample import classifier_test, mmd_test, share_below
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject
from vaebench.functional.regularisers import directions, sliced_wasserstein

LEVEL = 0.01
PAIR = "between {m} codes z ~ q(z|x), one a test image, and as many samples of p(z)"

KINDS = {
    "holes": MetricKind(
        "",
        False,
        "share of {m} samples z ~ p(z) that lie where codes hardly ever do: log q(z) is below the {level} quantile of "
        "that of {m} codes, each without its own image, q(z) over all N = {n} test images; {level} where q(z) = p(z)",
    ),
    "strays": MetricKind(
        "",
        False,
        "share of {m} codes that lie where the prior hardly ever does: log p(z) is below its {level} quantile over {m} "
        "samples of p(z); {level} where q(z) = p(z)",
    ),
    "mmd": MetricKind(
        "",
        False,
        "unbiased MMD² " + PAIR + ", inverse multiquadratic kernel of seven widths; 0 where they agree, and the "
        "standard error is that of this case",
    ),
    "mmd_p": MetricKind("", None, "p-value of mmd, {permutations} random exchanges"),
    "sliced_wasserstein": MetricKind("", False, "sliced 2-Wasserstein distance " + PAIR + ", {directions} directions"),
    "sliced_wasserstein_floor": MetricKind(
        "", None, "the same between two sets of {m} samples of p(z): what sliced_wasserstein is where they agree"
    ),
    "classifier_accuracy": MetricKind(
        "", False, "accuracy of a nearest-neighbour classifier, on samples it has not seen, " + PAIR + "; 0.5 at chance"
    ),
    "classifier_p": MetricKind("", None, "p-value of classifier_accuracy, exact binomial test"),
}


def measure(
    subject: Subject, findings: Findings, samples: int = 1000, permutations: int = 500, directions: int = 200
) -> None:
    """Holes in the sense of Rezende & Viola 2018 (https://arxiv.org/abs/1810.00597): prior mass without codes.

    Codes are samples of q(z|x), so that all metrics compare the aggregate posterior with the prior. Where posteriors of
    different images are far apart, q(z) has isolated modes, with holes between them.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        samples: number of codes, one per test image, and of samples of the prior.
        permutations: of the MMD test.
        directions: of the sliced distance.

    Raises:
        UserError: samples below 4.
    """
    if samples < 4:
        raise UserError(f"holes.samples is {samples}, where two samples need at least 4 each; give it 4 or more")
    own = subject.some(samples)
    m = len(own)
    fill: dict[str, Any] = {
        "m": m,
        "n": len(subject.raw),
        "level": LEVEL,
        "permutations": permutations,
        "directions": directions,
    }
    with findings.attempt(*KINDS, **fill):
        if m < 4:
            raise Unavailable(f"{m} images are too few: 4 are needed")
        own = own[torch.randperm(m)]  # splits are often sorted by class
        with absence("the prior cannot be sampled"):
            drawn = sample(subject.model.prior(), 2 * m)
            z = sample_posterior(subject.model, subject.x[own.to(subject.device)], 1, subject.seed)[0]
        if not (torch.isfinite(z).all() and torch.isfinite(drawn).all()):
            raise Unavailable("a code or a sample of the prior is not finite")
        _add_holes(subject, findings, z, drawn[:m], own, fill)
        a, b, c = (part.flatten(1).double() for part in (z, drawn[:m], drawn[m:]))
        _add_distances(findings, a, b, c, permutations, directions, fill)


def _add_holes(subject: Subject, findings: Findings, z: Tensor, drawn: Tensor, own: Tensor, fill: dict) -> None:
    with findings.attempt("holes", **fill), absence("the posterior has no density"):
        posteriors = [subject.model.posterior(x) for x in subject.x.split(BATCH)]
        reference = aggregate_densities(posteriors, z, own, each=False).others
        subject.advance(0.45)
        share, se = share_below(aggregate_densities(posteriors, drawn, each=False).joint, reference, LEVEL)
        subject.advance(0.9)
        findings.single("holes", share, fill["m"], se, **fill)
    with findings.attempt("strays", **fill), absence("the prior has no density"):
        prior = subject.model.prior()
        share, se = share_below(prior.log_prob(z), prior.log_prob(drawn), LEVEL)
        findings.single("strays", share, fill["m"], se, **fill)


def _add_distances(
    findings: Findings, a: Tensor, b: Tensor, c: Tensor, permutations: int, count: int, fill: dict
) -> None:
    """Codes a and samples of the prior, b and c, (m, n) each."""
    m = len(a)
    test = mmd_test(a, b, permutations)
    findings.single("mmd", test.statistic, m, test.se, **fill)
    findings.single("mmd_p", test.p_value, m, **fill)
    along = directions(count, a)
    findings.single("sliced_wasserstein", float(sliced_wasserstein(a, b, along).sqrt()), m, **fill)
    findings.single("sliced_wasserstein_floor", float(sliced_wasserstein(c, b, along).sqrt()), m, **fill)
    test = classifier_test(a, b)
    findings.single("classifier_accuracy", test.statistic, test.n, test.se, **fill)
    findings.single("classifier_p", test.p_value, test.n, **fill)
