"""The aggregate posterior: index-code mutual information, KL(q(z)‖p(z)) and its parts, and each unit's share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor
from torch.distributions import Distribution

from vaebench.distributions import units
from vaebench.errors import Unavailable, absence, unknown
from vaebench.evaluation.estimators.aggregate import (
    AggregateDensities,
    aggregate_densities,
    aggregate_samples,
    require_factors,
    require_finite,
)
from vaebench.evaluation.estimators.latents import Latents, read_latents
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

SATURATED = 0.95  # of log N
SPLITS = ("test", "train")
CLOSED = "the rate in closed form"
OVER = "q(z) = (1/N) Σ_n q(z|x_n) over all N = {n} {split} images, one sample of q(z|x) for each of {m} of them"

KINDS = {
    "information": MetricKind("nats", None, "I = E KL(q(z|x)‖q(z)), " + OVER + "; at most log N = {limit:.2f}"),
    "information_upper": MetricKind(
        "nats",
        None,
        "information with each sample's own image left out of q(z), " + OVER + "; in expectation an upper bound on the "
        "mutual information of image and code, where information is a lower one",
    ),
    "aggregate_kl": MetricKind("nats", False, "KL(q(z)‖p(z)) = rate − information, {how}, " + OVER),
    "total_correlation": MetricKind("nats", None, "KL(q(z)‖Π_j q(z_j)), " + OVER),
    "dimension_kl": MetricKind(
        "nats", None, "Σ_j KL(q(z_j)‖p(z_j)) = aggregate_kl − total_correlation, {how}, " + OVER
    ),
}


def measure(subject: Subject, findings: Findings, images: int = 1000, split: str = "test") -> None:
    """Metrics of `estimators.aggregate`, from posterior samples of some images scored under all posteriors.

    The work is `images` × N × units; 1,000 × 10,000 × 50 take ten seconds on one core. Per unit: its information
    I(n; z_j), and its divergence KL(q(z_j)‖p(z_j)).

    Args:
        subject: the model and its images.
        findings: receives the figures.
        images: images whose posterior is sampled.
        split: images of the aggregate: 'test' or 'train'.

    Raises:
        UserError: there is no such split.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS, "Set aggregate.split to one of them.")
    x = subject.x if split == "test" else subject.train()
    posteriors, z, own = aggregate_samples(subject.model, x, images, subject.seed)
    n, m = len(x), len(own)
    fill: dict[str, Any] = {"n": n, "m": m, "split": split, "limit": math.log(n)}
    with findings.attempt(*KINDS, how=CLOSED, **fill):
        with absence("the posterior has no density"):
            shards = subject.shards(f"aggregate-{split}", m)
            for shard in shards:
                shards.add(shard, aggregate_densities(posteriors, z[shard], own[shard])._asdict())
            sampled = AggregateDensities(**shards.figures())
        require_finite(sampled, own)
        findings.average("information", sampled.information, keep=False, **fill)
        if n > 1:
            findings.average("information_upper", sampled.information_upper, keep=False, **fill)
        else:
            findings.missing("information_upper", "one image has no others", **fill)
        _warn(findings, float(sampled.information.mean()), n, split)
        latents = subject.latents if split == "test" else read_latents(subject.model, x)
        rates = _rates(subject, sampled, z, latents, own)
        _add_divergences(findings, sampled, rates, posteriors[0], fill)


def _add_divergences(
    findings: Findings, sampled: AggregateDensities, rates: Rates, posterior: Distribution, fill: dict[str, Any]
) -> None:
    fill = {**fill, "how": rates.how}
    with findings.attempt("aggregate_kl", **fill):
        if rates.whole is None:
            raise Unavailable(rates.why)
        findings.average("aggregate_kl", rates.whole - sampled.information, keep=False, **fill)
    with findings.attempt("total_correlation", "dimension_kl", **fill):
        require_factors(posterior)
        findings.average("total_correlation", sampled.correlation, keep=False, **fill)
        findings.units["information"] = sampled.information_units.mean(0).tolist()
        if rates.units is None:
            raise Unavailable(rates.why)
        single = rates.units - sampled.information_units
        findings.average("dimension_kl", single.sum(-1), keep=False, **fill)
        findings.units["aggregate_kl"] = single.mean(0).tolist()


def _warn(findings: Findings, information: float, n: int, split: str) -> None:
    if n > 1 and information >= SATURATED * math.log(n):
        findings.warnings.append(
            f"the index-code mutual information, {information:.2f} nats, is within {1 - SATURATED:.0%} of its limit "
            f"log N = {math.log(n):.2f} for {n} {split} images: it says that codes tell images apart, and no more; "
            "aggregate_kl is then too large by what information lacks"
        )


class Rates(NamedTuple):
    """The rates of m samples, nats.

    Attributes:
        how: their source, for definitions.
        whole: (m,); None where there is none.
        units: of every unit, (m, units); None where there is none.
        why: one of them is None.
    """

    how: str
    whole: Tensor | None
    units: Tensor | None
    why: str = ""


def _rates(subject: Subject, sampled: AggregateDensities, z: Tensor, latents: Latents, own: Tensor) -> Rates:
    """Rates in closed form where there is one: they have the mean of log q(z|x) − log p(z) and less variance."""
    if latents.rate is not None and latents.kl is not None:
        return Rates(CLOSED, latents.rate[own], latents.kl[own])
    how, rate = "the rate from the same samples", None
    try:
        with absence("the prior has no density"):
            prior = subject.model.prior()
            rate = sampled.own.sum(-1) - prior.log_prob(z).double().cpu()
            log_p = units("prior", prior).log_prob(z).flatten(1)
            return Rates(how, rate, sampled.own - log_p.double().cpu())
    except Unavailable as error:
        return Rates(how, rate, None, str(error))
