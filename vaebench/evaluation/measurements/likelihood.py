"""log p(x) by importance sampling with diagnostics of its reliability, and the ELBO with its two terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vaebench.errors import Unavailable
from vaebench.evaluation.conditions import declared, for_images, noise_keys
from vaebench.evaluation.estimators.likelihood import (
    Estimates,
    bits_per_dim,
    estimate,
    has_one_code,
    no_likelihood,
    sampled_distortion,
)
from vaebench.evaluation.estimators.proposals import Effort
from vaebench.evaluation.estimators.refined import Proposal, RefinedEstimates
from vaebench.evaluation.estimators.scoring import Precision, scorer
from vaebench.evaluation.estimators.weights import FEWEST, TRUSTED, mean_error
from vaebench.evaluation.measurements import _refined
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject
from vaebench.traits import LikelihoodTraits, PosteriorTraits, PriorTraits

BF16_CHECKED = 100  # images on which bf16 is compared with f32
SAMPLES = 16  # of the distortion, where the posterior or the prior has no density
SHARD = 2**20  # samples

LABELLED = True  # supports conditional models
LATER = ("proposal", "rounds", "bracket", "anneal", "chunk")  # settings that records omit at their defaults
KINDS = {
    "log_likelihood": MetricKind(
        "nats", True, "importance-weighted estimate L_K of log p(x), K = {k}; mean over the images{bound}"
    ),
    "nll": MetricKind("nats", False, "−log_likelihood, K = {k}{bound}"),
    "bits_per_dim": MetricKind("bits/dim", False, "nll / (D ln 2), D = {pixels} values an image, K = {k}{bound}"),
    "log_likelihood_mc_se": MetricKind(
        "nats",
        False,
        "standard error that the K = {k} samples leave in log_likelihood, apart from the choice of images; by the "
        "jackknife over samples; not to be trusted for images whose pareto_k exceeds 0.7",
        version=2,  # 1: by the delta method
    ),
    "log_likelihood_jackknife": MetricKind(
        "nats",
        True,
        "L_K with its bias of order 1/K removed by the jackknife (Nowozin 2018), K = {k}; no bound: it errs both ways",
    ),
    "log_likelihood_delta": MetricKind(
        "nats",
        True,
        "L_K with its bias of order 1/K removed by the delta method, L_K + (K/ess − 1) / 2(K − 1), K = {k}; no bound",
    ),
    "ess": MetricKind("samples", True, "effective sample size (Σw)²/Σw² of an image's K = {k} importance weights"),
    "pareto_k": MetricKind(
        "",
        False,
        "shape k̂ of the tail of an image's K = {k} importance weights (Vehtari et al. 2024); beyond 0.7 its "
        "log-likelihood is not to be trusted",
    ),
    "untrusted_images": MetricKind("images", False, "images whose pareto_k exceeds 0.7, K = {k}"),
    "elbo": MetricKind("nats", True, "−(rate + distortion), the bound at β = 1 without free bits{bound}"),
    "rate": MetricKind("nats", None, "KL(q(z|x)‖p(z)), {how}"),
    "distortion": MetricKind("nats", False, "−log p(x|z), mean of {samples} samples of q(z|x) an image{bound}"),
    "bf16_error": MetricKind(
        "nats", None, "log_likelihood in bf16 less that in f32 under the same noise, on {n} of the images; mean"
    ),
    "bf16_error_largest": MetricKind(
        "nats", False, "the largest absolute bf16_error of an image, among {n} of the images"
    ),
}


def measure(
    subject: Subject,
    findings: Findings,
    k: int = 5000,
    precision: Precision = "f32",
    compile: bool = False,
    corrections: bool = False,
    proposal: Proposal = "encoder",
    rounds: int = Effort().rounds,
    bracket: bool = True,
    anneal: bool = False,
    chunk: int | None = None,
) -> None:
    """Log-likelihood, ELBO, rate and distortion of every test image.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        k: importance samples per image; one is taken where q(z|x) is a point mass on codes.
        precision: of the likelihood's network in the estimate: 'f32' or 'bf16'; the error of the latter is measured on
            some images and reported.
        compile: compile the likelihood; see `vaebench.log_likelihood`.
        corrections: add bias-corrected estimates.
        proposal: of the importance samples: 'encoder' is q(z|x); 'refined' is a Gaussian fitted to each image under p
            alone, with the encoder's estimate as a second metric, or as a substitute where no Gaussian can be fitted.
        rounds: natural-gradient rounds of a refined proposal's fit.
        bracket: compare refined estimates with chains on 100 images, and with an upper bound on 50 images sampled from
            the model.
        anneal: weigh short chains from a refined proposal in place of its samples, for images whose posterior is too
            far from a Gaussian, as a pilot sample says.
        chunk: most samples of an image that the encoder's estimate scores at once; None follows the device, the images
            and the widest activation of the network. Where they do not fit into memory, they are halved.
    """
    _keep_facts(subject, findings)
    if reason := no_likelihood(subject.model, subject.x):
        if subject.latents.rate is not None:
            findings.average("rate", subject.latents.rate, how="in closed form")
        raise Unavailable(reason)
    refined = None
    if _refined.wanted(subject, findings, proposal):
        effort = Effort(rounds=rounds)
        refined = _refined.refined_estimates(subject, k, effort, precision, compile, anneal)
        there = _refined.named(findings, anneal)
        _add_likelihood(subject, there, refined, k, corrections)
        _add_trust(there, refined, k)
        _refined.add(findings, refined, k, anneal)
        if precision == "bf16":
            _add_bf16_error(subject, findings, refined, lambda some: _refined.exact(subject, some, k, effort, anneal))
        if bracket:
            _refined.bracket(subject, findings, refined, k, effort, anneal)
    if reason := subject.no_density:
        if refined is None:
            _miss_likelihood(subject, findings, reason, k)
        else:
            _refined.miss_encoder(findings, reason, k)
        distortion = sampled_distortion(subject.model, subject.x, SAMPLES, subject.seed)
        _add_bound(subject, findings, distortion, None, SAMPLES, reason)
        return
    if has_one_code(subject.model, subject.x):
        k = 1
        findings.warnings.append(
            "q(z|x) has all its mass on one code, so that further samples are the same: log_likelihood is the bound at "
            "k = 1"
        )
    score = scorer(subject.model, precision, compile)
    shards = subject.shards("likelihood-part", size=max(50, min(5000, SHARD // k)))
    for shard in shards:
        model, x = for_images(subject.model, shard), subject.raw[shard]
        shards.add(shard, estimate(model, x, k, subject.seed, chunk, score=score, start=shard.start)._asdict())
    estimates = Estimates(**shards.figures())
    if refined is None:
        _add_likelihood(subject, findings, estimates, k, corrections)
        _add_trust(findings, estimates, k)
    else:
        _refined.add_encoder(findings, refined, estimates, k)
    _add_bound(subject, findings, estimates.distortion, estimates.rate, k)
    if precision == "bf16" and refined is None:

        def exact(some: Tensor) -> Tensor:
            return estimate(for_images(subject.model, some), subject.raw[some], k, subject.seed).log_likelihood

        _add_bf16_error(subject, findings, estimates, exact)


def _keep_facts(subject: Subject, findings: Findings) -> None:
    """Adds the table 'likelihood' with the class and settings of p(x|z), unless it is a bare function.

    Warns where log p(x|z) is a bound, and where log p(z) is an estimate.
    """
    likelihood = declared(subject.model).likelihood
    traits = LikelihoodTraits.of(likelihood)
    if traits.facts:
        findings.tables["likelihood"] = {"name": type(likelihood).__name__, **traits.facts}
    if traits.bound:
        findings.warnings.append(f"in place of log p(x|z): {traits.bound}")
    findings.warnings.extend(part.doubt() for part in _doubtful(subject))


def _fill(subject: Subject, k: int) -> dict[str, Any]:
    return {"k": k, "pixels": subject.spec.dimensions, "bound": _whole(subject)}


def _doubtful(subject: Subject) -> list[PriorTraits]:
    """The prior and its components whose density is an estimate."""
    return [traits for traits in PriorTraits.within(declared(subject.model).prior) if traits.estimate]


def _short(subject: Subject) -> str:
    """Addition to a definition where `log_prob` is a lower bound on log p(x|z)."""
    bound = LikelihoodTraits.of(declared(subject.model).likelihood).bound
    return f"; {bound}" if bound else ""


def _whole(subject: Subject) -> str:
    """As `_short`, for metrics of both p(x|z) and p(z), with an addition where log p(z) is an estimate."""
    return _short(subject) + "".join(f"; {part.estimate}" for part in _doubtful(subject))


def _miss_likelihood(subject: Subject, findings: Findings, reason: str, k: int) -> None:
    for name in ("log_likelihood", "nll", "bits_per_dim", "log_likelihood_mc_se", "ess", "pareto_k"):
        findings.missing(name, reason, **_fill(subject, k))


def _add_likelihood(
    subject: Subject, findings: Findings, estimates: Estimates | RefinedEstimates, k: int, corrections: bool
) -> None:
    n, bound, fill = len(estimates.ess), estimates.log_likelihood, _fill(subject, k)
    findings.average("log_likelihood", bound, **fill)
    findings.average("nll", -bound, keep=False, **fill)
    if subject.spec.levels is None:
        findings.missing("bits_per_dim", "a density over continuous images has no bits", **fill)
    else:
        findings.average("bits_per_dim", bits_per_dim(bound, subject.spec.dimensions), keep=False, **fill)
    if k == 1:
        for name in ("log_likelihood_mc_se", *(["log_likelihood_jackknife", "log_likelihood_delta"] * corrections)):
            findings.missing(name, "one sample has no spread", k=k)
        return
    findings.single("log_likelihood_mc_se", mean_error(estimates.variance, noise_keys(subject.raw, 0)), n, k=k)
    if corrections:
        excess = (1 / estimates.ess - 1 / k).clamp(min=0) * k / (k - 1)  # the variance of w over its squared mean, / K
        findings.average("log_likelihood_jackknife", estimates.corrected, k=k)
        findings.average("log_likelihood_delta", bound + excess / 2, k=k)


def _add_trust(findings: Findings, estimates: Estimates | RefinedEstimates, k: int) -> None:
    """Adds effective sample size and k̂, with a warning where the estimate is unreliable."""
    findings.average("ess", estimates.ess, k=k)
    n = len(estimates.ess)
    if k < FEWEST:
        for name in ("pareto_k", "untrusted_images"):
            findings.missing(name, f"{k} samples have no tail to fit: k of at least {FEWEST} is needed", k=k)
        return
    findings.average("pareto_k", estimates.pareto_k, k=k)
    strange = (
        _refined.untrusted_images(estimates)
        if isinstance(estimates, RefinedEstimates)
        else estimates.pareto_k > TRUSTED
    )
    findings.single("untrusted_images", int(strange.sum()), n, k=k)
    if strange.any():
        findings.warnings.append(
            f"the log-likelihood of {int(strange.sum())} of {n} images (the first is image "
            f"{int(strange.nonzero()[0])}) is not to be trusted: the largest of their {k} importance weights outweigh "
            "the rest (Pareto k̂ > 0.7), so that it is likely too low; take a larger k, or bracket it with the "
            "measurement 'ais'"
        )


def _add_bound(
    subject: Subject,
    findings: Findings,
    distortion: Tensor,
    sampled: Tensor | None,
    samples: int,
    reason: str = "",
) -> None:
    """Adds distortion, rate (in closed form or from samples, or unavailable for `reason`), and their sum."""
    bound = _whole(subject)
    findings.average("distortion", distortion, samples=samples, bound=_short(subject))
    rate, how = subject.latents.rate, "in closed form"
    if rate is None:
        rate, how = sampled, f"mean of {samples} samples{PosteriorTraits.of(subject.model.posterior).auxiliary}"
    if rate is None:
        for name in ("rate", "elbo"):
            findings.missing(name, f"{reason}, and {subject.latents.why['rate']}", how="in closed form", bound=bound)
    else:
        findings.average("rate", rate, how=how)
        findings.average("elbo", -(rate + distortion), bound=bound)


def _add_bf16_error(
    subject: Subject, findings: Findings, estimates: Estimates | RefinedEstimates, exact: Callable[[Tensor], Tensor]
) -> None:
    """Adds the error on some images, for which `exact` gives the estimates in f32."""
    some = subject.some(BF16_CHECKED)
    error = estimates.log_likelihood[some] - exact(some)
    findings.average("bf16_error", error, keep=False, n=len(some))
    findings.single("bf16_error_largest", float(error.abs().max()), len(some), n=len(some))
