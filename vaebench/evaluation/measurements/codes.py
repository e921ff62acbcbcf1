"""Discrete latents: usage and perplexity of codebooks."""

from __future__ import annotations

from typing import Any

from vaebench.distributions.codes import Codes
from vaebench.evaluation.estimators.codes import codes, count_codes, usage
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject
from vaebench.functional.quantisation import entropy

POOLED = "over the images and the {places} places, mean of {levels} levels, out of k = {size}"

KINDS = {
    "code_usage": MetricKind("", True, "part of the k codes that are the likeliest one anywhere, " + POOLED),
    "code_perplexity": MetricKind("codes", True, "exp H of how often q(z|x) takes each code, " + POOLED),
    "code_perplexity_place": MetricKind(
        "codes",
        True,
        "exp H of how often q(z|x) takes each code at one place and level, over the images; mean of the {count} codes "
        "of an image, out of k = {size}",
    ),
    "code_entropy": MetricKind(
        "nats", None, "Σ H of the {count} codes of an image, each over the images: what a factorised prior must pay"
    ),
}


def measure(subject: Subject, findings: Findings) -> None:
    """Usage and perplexity of the codes of all test images.

    `code_usage` and `code_perplexity` pool a codebook over the places that share it. Where each place has codes of its
    own, as with one-hot latents, only `code_perplexity_place` is meaningful. The table 'codes' has the shares of every
    level's codes, (l, k), and the perplexity at each place and level, (n, l).

    Args:
        subject: the model and its images.
        findings: receives the figures.
    """
    with findings.attempt(*KINDS, places="no", levels="no", size="0", count="no"):
        _add_usage(subject, findings, codes(subject.model.posterior(subject.x[:1])))


def _add_usage(subject: Subject, findings: Findings, first: Codes) -> None:
    """Adds all metrics, given the codes of the first image."""
    levels, n = len(first.book), len(subject.raw)
    counts = count_codes(subject.model, subject.x)
    fill: dict[str, Any] = {"places": first.places, "levels": levels, "size": first.size, "count": first.count}
    shares = counts.shares / n
    pooled, each = shares.mean(0), entropy(shares)
    findings.single("code_usage", usage(counts.images), n, **fill)
    findings.single("code_perplexity", float(entropy(pooled).exp().mean()), n, **fill)
    findings.single("code_perplexity_place", float(each.exp().mean()), n, **fill)
    findings.single("code_entropy", float(each.sum()), n, **fill)
    findings.tables["codes"] = {"shares": pooled.tolist(), "perplexity": each.exp().tolist()}
