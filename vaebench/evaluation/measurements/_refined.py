"""The part of the measurement `likelihood` for importance samples from a proposal fitted to each image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vaebench.errors import Unavailable, absence
from vaebench.evaluation.conditions import Conditioned, for_images
from vaebench.evaluation.estimators.brackets import Annealed, Certificate, anneal_refined, certificate
from vaebench.evaluation.estimators.chains import ChainSettings
from vaebench.evaluation.estimators.joint import differentiable, require_gaussian
from vaebench.evaluation.estimators.likelihood import Estimates
from vaebench.evaluation.estimators.proposals import Effort
from vaebench.evaluation.estimators.refined import (
    JUDGES,
    SHORT,
    Proposal,
    RefinedEstimates,
    check_proposal,
    estimate,
)
from vaebench.evaluation.estimators.scoring import Precision, scorer
from vaebench.evaluation.estimators.weights import TRUSTED
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

SHARD = 100  # images
SMALL = 25  # images per shard of chains
BRACKETED = 100  # test images on which chains bracket the estimate
NOTABLE = 0.1  # nats; a larger bracket gap, beyond two standard errors, raises a warning
SIMULATED = 50  # images sampled from the model for the certificate
CHAINS = ChainSettings()
HOW = "samples of a Gaussian refined for each image, K = {k}"

KINDS = {
    "log_likelihood": MetricKind(
        "nats", True, f"importance-weighted estimate L_K of log p(x) by {HOW}; mean over the images{{bound}}", version=2
    ),
    "nll": MetricKind("nats", False, f"−log_likelihood, by {HOW}{{bound}}", version=2),
    "bits_per_dim": MetricKind(
        "bits/dim", False, f"nll / (D ln 2), D = {{pixels}} values an image, by {HOW}{{bound}}", version=2
    ),
    "log_likelihood_mc_se": MetricKind(
        "nats",
        False,
        "standard error that the K = {k} samples of refined proposals leave in log_likelihood, apart from the choice "
        "of images; by the jackknife over samples; not to be trusted for images whose pareto_k exceeds 0.7",
        version=3,
    ),
    "log_likelihood_jackknife": MetricKind(
        "nats",
        True,
        f"L_K with its bias of order 1/K removed by the jackknife (Nowozin 2018), by {HOW}; no bound",
        version=2,
    ),
    "log_likelihood_delta": MetricKind(
        "nats",
        True,
        f"L_K with its bias of order 1/K removed by the delta method, L_K + (K/ess − 1) / 2(K − 1), by {HOW}; no bound",
        version=2,
    ),
    "log_likelihood_change": MetricKind(
        "nats",
        False,
        f"by how much log_likelihood rises from K/10 to K samples, L_K less the mean of L_{{{{K/10}}}} over the "
        f"tenths of the samples, by {HOW}; where it is not small, neither is what K leaves of the bias",
    ),
    "ess": MetricKind(
        "samples", True, f"effective sample size (Σw)²/Σw² of an image's importance weights, {HOW}", version=2
    ),
    "pareto_k": MetricKind(
        "",
        False,
        f"shape k̂ of the tail of an image's importance weights (Vehtari et al. 2024), {HOW}; beyond 0.7 its "
        "log-likelihood is not to be trusted",
        version=2,
    ),
    "untrusted_images": MetricKind("images", False, f"images whose pareto_k exceeds 0.7, {HOW}", version=2),
    "annealed_images": MetricKind(
        "images",
        None,
        "images whose samples gave way to annealed importance sampling from their proposals, {chains} chains of "
        "{temperatures} temperatures with {leapfrog} leapfrog steps each, since the k̂ of {judges} other samples, which "
        "is their pareto_k, exceeds 0.5; they are untrusted where their ess is below a quarter of the chains",
    ),
    "bracket_gap": MetricKind(
        "nats",
        False,
        "log p(x) by annealed importance sampling from the refined proposals, {chains} chains of {temperatures} "
        "temperatures with {leapfrog} leapfrog steps each, less log_likelihood, K = {k}; both are lower bounds in "
        "expectation; mean on {n} of the test images",
    ),
    "certificate_gap": MetricKind(
        "nats",
        False,
        "upper less lower bound of log p(x) on {n} images that the model itself makes up, by K = {k} samples of "
        "refined proposals with and without the exact code among them (Grosse et al. 2015, arXiv:1511.02543); the "
        "bias of log_likelihood on such images is at most this in expectation",
    ),
    "encoder_log_likelihood": MetricKind(
        "nats", True, "importance-weighted estimate L_K of log p(x) by K = {k} samples of q(z|x); mean over the images"
    ),
    "encoder_price": MetricKind(
        "nats",
        False,
        "log_likelihood by a proposal refined for each image less encoder_log_likelihood, K = {k} samples of either: "
        "what the estimate would lose by trusting the encoder",
    ),
}


def named(findings: Findings, anneal: bool = False) -> Findings:
    """The same findings with the definitions of refined proposals, and of chains that take the place of samples."""
    how = HOW + (", or of short chains from it (annealed_images)" if anneal else "")
    kinds = {name: kind._replace(definition=kind.definition.replace(HOW, how)) for name, kind in KINDS.items()}
    return replace(findings, kinds={**findings.kinds, **kinds})


def wanted(subject: Subject, findings: Findings, proposal: Proposal) -> bool:
    """Whether to refine: where it is requested and possible. The table 'proposal' records the choice and its reason.

    Raises:
        UserError: there is no such proposal.
    """
    check_proposal(proposal)
    if proposal == "encoder":
        return False
    x = subject.x[:1]
    try:
        with differentiable():
            require_gaussian(for_images(subject.model, slice(0, 1)), x.clone())
    except Unavailable as error:
        findings.tables["proposal"] = {"asked": "refined", "used": "encoder", "reason": str(error)}
        findings.warnings.append(
            f"no proposal is refined for each image: {error}; log_likelihood is the encoder's bound, which measures "
            "the encoder too, and does not rank beside refined ones"
        )
        return False
    findings.tables["proposal"] = {"asked": "refined", "used": "refined"}
    return True


def refined_estimates(
    subject: Subject, k: int, effort: Effort, precision: Precision, compile: bool, anneal: bool
) -> RefinedEstimates:
    """Estimates of all test images."""
    score = scorer(subject.model, precision, compile)
    shards = subject.shards("refined-piece", size=SHARD)
    for shard in shards:
        with differentiable():
            model = for_images(subject.model, shard)
        refined = estimate(model, subject.raw[shard], k, subject.seed, effort, score, shard.start, anneal=anneal)
        shards.add(shard, refined._asdict())
    return RefinedEstimates(**shards.figures())


def exact(subject: Subject, some: Tensor, k: int, effort: Effort, anneal: bool) -> Tensor:
    """log p(x) of some images in f32."""
    with differentiable():
        model = for_images(subject.model, some)
    return estimate(model, subject.raw[some], k, subject.seed, effort, anneal=anneal).log_likelihood


def untrusted_images(refined: RefinedEstimates) -> Tensor:
    """Images whose estimate is not to be trusted, (n,): by k̂, and chains, too few for a k̂, by their ESS."""
    return torch.where(refined.annealed > 0, refined.ess < SHORT.chains / 4, refined.pareto_k > TRUSTED)


def add(findings: Findings, refined: RefinedEstimates, k: int, anneal: bool) -> None:
    """Adds the rise from K/10 to K samples, and the number of images whose samples gave way to chains."""
    there = named(findings, anneal)
    there.average("log_likelihood_change", refined.change, k=k)
    if anneal:
        there.single("annealed_images", int(refined.annealed.sum()), len(refined.annealed), judges=JUDGES,
                     **SHORT._asdict())  # fmt: skip


def bracket(
    subject: Subject, findings: Findings, refined: RefinedEstimates, k: int, effort: Effort, anneal: bool
) -> None:
    """Adds annealed importance sampling on some test images, and bounds from both sides on images of the model."""
    there = named(findings)
    with there.attempt("bracket_gap", n=BRACKETED, k=k, **CHAINS._asdict()):
        if isinstance(subject.model, Conditioned):
            raise Unavailable("chains do not support the labels of a conditional model")
        some = subject.some(BRACKETED)
        shards = subject.shards("refined-chains", len(some), SMALL)
        for shard in shards:
            names = some[shard]
            up = anneal_refined(subject.model, subject.raw[names], subject.seed, effort, CHAINS, names.tolist())
            shards.add(shard, up._asdict())
        up = Annealed(**shards.figures())
        bound = refined.log_likelihood[some]
        there.average("bracket_gap", up.lower - bound, keep=False, n=len(some), k=k, **CHAINS._asdict())
        value, se = findings.metrics["bracket_gap"].value, findings.metrics["bracket_gap"].se
        if value is not None and value > max(NOTABLE, 2 * (se or 0)):
            findings.warnings.append(
                f"chains from the refined proposals find log p(x) to be {value:.2f} nats above log_likelihood on "
                f"{len(some)} images: the posterior is far from a Gaussian, and the estimate too low by at least that"
            )
        findings.tables["bracket"] = {
            "image": some.tolist(),
            "annealed": up.lower.tolist(),
            "log_likelihood": bound.tolist(),
        }
    with there.attempt("certificate_gap", n=SIMULATED, k=k):
        if isinstance(subject.model, Conditioned):
            raise Unavailable("a conditional model makes up images of given labels alone")
        shards = subject.shards("refined-certificate", SIMULATED, SMALL)
        for shard in shards:
            with absence("the prior or the likelihood cannot be sampled"):
                made = certificate(
                    subject.model, shard.start, shard.stop, k, subject.seed, effort, subject.device, anneal
                )
            shards.add(shard, made._asdict())
        both = Certificate(**shards.figures())
        there.average("certificate_gap", both.upper - both.lower, keep=False, n=SIMULATED, k=k)
        findings.tables["certificate"] = {"lower": both.lower.tolist(), "upper": both.upper.tolist()}


def add_encoder(findings: Findings, refined: RefinedEstimates, encoder: Estimates, k: int) -> None:
    """Adds the encoder's estimate, and its shortfall against the refined one."""
    there = named(findings)
    there.average("encoder_log_likelihood", encoder.log_likelihood, k=k)
    there.average("encoder_price", refined.log_likelihood - encoder.log_likelihood, k=k)


def miss_encoder(findings: Findings, reason: str, k: int) -> None:
    """Marks the encoder's estimate unavailable."""
    for name in ("encoder_log_likelihood", "encoder_price"):
        named(findings).missing(name, reason, k=k)
