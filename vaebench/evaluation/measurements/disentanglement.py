"""Disentanglement scores, on data whose factors of variation are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vaebench.errors import Unavailable, UserError, unknown
from vaebench.evaluation.conditions import spread
from vaebench.evaluation.estimators import disentanglement as scores
from vaebench.evaluation.estimators.disentanglement import (
    BINS,
    Coded,
    Factors,
    LatentCodes,
    grouped_jackknife,
    local_mig,
    mig_of,
    mutual_information,
    require_units,
    sap_of,
    varying,
)
from vaebench.evaluation.estimators.fixed_factor import (
    ACTIVE,
    SIZE,
    Index,
    beta_vae_features,
    beta_vae_score,
    draw_factors,
    factor_vae_score,
    factor_vae_votes,
)
from vaebench.evaluation.estimators.latents import finite_mean, read_latents
from vaebench.evaluation.metrics import Findings, MetricKind
from vaebench.evaluation.subject import Subject

FEWEST = 100  # images of a neighbourhood
LEAST = 100  # training draws
MODELS = {"boosting": "classifier by gradient boosting", "forest": "random forest"}
TABLE = f"codes E_q[z] of {{n}} test images in {BINS} equal bins"
LEARNT = "on {n} test images, learnt from {m} training images"
JACKKNIFED = "; standard error by the jackknife over images"
DRAWN = (
    f"{{judged}} draws of {SIZE} {{what}} among {{n}} test images, learnt from {{drawn}} among {{m}} training images; "
    "standard error over draws"
)

KINDS = {
    "mig": MetricKind("", True, "mutual information gap (Chen et al. 2018), " + TABLE + JACKKNIFED),
    "modularity": MetricKind(
        "", True, "modularity (Ridgeway & Mozer 2018), idle units included, " + TABLE + JACKKNIFED
    ),
    "irs": MetricKind(
        "", True, "interventional robustness (Suter et al. 2019) at the 0.99 quantile, {n} test images" + JACKKNIFED
    ),
    "local_mig": MetricKind(
        "",
        True,
        "mig within {count} neighbourhoods of factors (Rhodes & Lee 2021) of 100 images or more, out of {n} test and "
        f"training images: factors of {{ordered}} values or more within {{locality:.0%}} of their values from the "
        f"centre's, the others equal to it; {BINS} equal bins",
    ),
    "sap": MetricKind(
        "",
        True,
        "separated attribute predictability (Kumar et al. 2018), accuracy of linear classifiers " + LEARNT + JACKKNIFED,
    ),
    "sap_r2": MetricKind(
        "",
        True,
        "the same with factors taken as numbers: R² over {n} test images, meant for ordered factors" + JACKKNIFED,
    ),
    "dci_disentanglement": MetricKind(
        "", True, "disentanglement (Eastwood & Williams 2018), importances of a {model} " + LEARNT
    ),
    "dci_completeness": MetricKind("", True, "completeness, likewise, importances of a {model} " + LEARNT),
    "dci_informativeness": MetricKind("", True, "accuracy, mean over factors, of the same {model} " + LEARNT),
    "explicitness": MetricKind(
        "",
        True,
        "explicitness (Ridgeway & Mozer 2018): mean area under the ROC of a factor's values, 0.5 at chance, logistic "
        "regression " + LEARNT + JACKKNIFED,
    ),
    "factor_vae_score": MetricKind("", True, "FactorVAE score (Kim & Mnih 2018), " + DRAWN),
    "beta_vae_score": MetricKind("", True, "β-VAE score (Higgins et al. 2017), " + DRAWN),
}


def measure(
    subject: Subject,
    findings: Findings,
    train: int = 5000,
    learnt: int = 1000,
    drawn: int = 10_000,
    dci: str = "boosting",
    neighbourhoods: int = 20,
    locality: float = 0.3,
    ordered: int = 6,
) -> None:
    """All scores, and the table of mutual informations, on the factors that vary among the test images.

    Args:
        subject: the model and its images.
        findings: receives the figures.
        train: training images for classifiers and votes.
        learnt: training images for the slow scores, DCI and SAP.
        drawn: training draws of the FactorVAE and β-VAE scores; they are tested on half as many.
        dci: classifier of DCI: 'boosting', as in disentanglement_lib, whose 10,000 images take minutes, or 'forest',
            several times faster.
        neighbourhoods: of the local MIG.
        locality: their radius, as a share of a factor's number of values.
        ordered: least number of values of a factor that is treated as ordered.

    Raises:
        UserError: a model that does not exist, a locality outside (0, 1], or too few draws.
    """
    if dci not in MODELS:
        raise unknown("model", dci, MODELS, "Set disentanglement.dci to one of them.")
    if not 0 < locality <= 1:
        raise UserError(
            f"disentanglement.locality is {locality}, where a share of a factor's values is expected; give it a number "
            "above 0 and at most 1"
        )
    if drawn < LEAST:
        raise UserError(
            f"disentanglement.drawn is {drawn}, where scores need at least {LEAST} draws to learn from; give it more"
        )
    fill: dict[str, Any] = {
        **{"n": len(subject.raw), "m": train, "model": MODELS[dci], "drawn": drawn, "judged": -(-drawn // 2)},
        **{"count": neighbourhoods, "ordered": ordered, "locality": locality},
    }
    with findings.attempt(*KINDS, **fill, what="images"):
        train_set, few, test_set = _coded(subject, train, learnt)
        fill["m"] = len(train_set.codes)
        findings.tables["mutual_information"] = mutual_information(*test_set).tolist()
        _add_tables(findings, test_set, fill)
        _add_local(findings, train_set, test_set, np.random.default_rng(subject.seed % 2**63), fill)
        subject.advance(0.1)
        _add_learnt(findings, few, test_set, dci, subject.seed % 2**32, {**fill, "m": len(few.codes)})
        subject.advance(0.8)
        _add_explicitness(findings, train_set, test_set, fill)
        _add_drawn(findings, train_set, test_set, np.random.default_rng(subject.seed % 2**63), fill)


def _coded(subject: Subject, train: int, learnt: int) -> tuple[Coded, Coded, Coded]:
    """All training images, some of them, and test images.

    Raises:
        Unavailable: there are no factors to score, or too few units.
    """
    known = subject.factors("test"), subject.factors("train", train)
    if known[0] is None or known[1] is None:
        raise Unavailable("the data has no factors")
    codes = finite_mean(subject.latents).numpy()
    require_units(codes)
    tested, trained = (factors.cpu().numpy() for factors in known if factors is not None)
    some = spread(len(trained), learnt).numpy()
    kept = varying((tested, trained, trained[some]), shared=2, least=2)
    learning = Coded(finite_mean(read_latents(subject.model, subject.train(train))).numpy(), trained[:, kept])
    return learning, learning.at(some), Coded(codes, tested[:, kept])


def _add_tables(findings: Findings, test: Coded, fill: dict[str, Any]) -> None:
    """Adds the scores without a classifier."""
    statistics: dict[str, Callable[[LatentCodes, Factors], float]] = {
        "mig": mig_of,
        "modularity": lambda z, v: scores.modularity(mutual_information(z, v)),
        "irs": scores.irs,
        "sap_r2": lambda z, v: scores.sap(scores.determination(z, v)),
    }
    n = len(test.codes)
    for name, statistic in statistics.items():

        def of(some: Index, statistic: Callable[[LatentCodes, Factors], float] = statistic) -> float:
            return statistic(test.codes[some], test.factors[some])

        findings.single(name, statistic(*test), n, grouped_jackknife(of, n), **fill)


def _add_local(findings: Findings, train: Coded, test: Coded, draw: np.random.Generator, fill: dict[str, Any]) -> None:
    codes, factors = (np.concatenate(parts) for parts in zip(test, train, strict=True))
    fill = {**fill, "n": len(codes)}
    values = local_mig(codes, factors, draw, fill["count"], fill["locality"], fill["ordered"], FEWEST)
    if not values:
        findings.missing(
            "local_mig", f"no neighbourhood has {FEWEST} images among which an ordered factor varies", **fill
        )
        return
    fill["count"] = len(values)
    se = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    findings.single("local_mig", float(np.mean(values)), len(codes), se, **fill)


def _add_learnt(findings: Findings, few: Coded, test: Coded, dci: str, seed: int, fill: dict[str, Any]) -> None:
    """Adds SAP and DCI, whose classifiers are trained on few images."""
    n = len(test.codes)
    value, se = sap_of(few, test)
    findings.single("sap", value, n, se, **fill)
    relied, predicted = scores.importances(*few, *test, dci, seed)
    findings.tables["dci_importances"] = relied.tolist()
    findings.single("dci_disentanglement", scores.dci_disentanglement(relied), n, **fill)
    findings.single("dci_completeness", scores.dci_completeness(relied), n, **fill)
    findings.average("dci_informativeness", torch.from_numpy(predicted.mean(1)), keep=False, **fill)


def _add_explicitness(findings: Findings, train: Coded, test: Coded, fill: dict[str, Any]) -> None:
    chances = scores.chances(*train, test.codes)

    def of(some: Index) -> float:
        return scores.explicitness([part[some] for part in chances], train.factors, test.factors[some])

    n = len(test.codes)
    findings.single("explicitness", of(np.arange(n)), n, grouped_jackknife(of, n), **fill)


def _add_drawn(findings: Findings, train: Coded, test: Coded, draw: np.random.Generator, fill: dict[str, Any]) -> None:
    """Adds the FactorVAE and β-VAE scores."""
    counts = (train, fill["drawn"]), (test, fill["judged"])

    def add(name: str, score: float, what: str) -> None:
        findings.single(name, score, fill["n"], (score * (1 - score) / fill["judged"]) ** 0.5, **fill, what=what)

    if min(part.codes.std(0, ddof=1).max() for part in (train, test)) < ACTIVE:
        findings.missing("factor_vae_score", f"no unit's standard deviation reaches {ACTIVE}", **fill, what="images")
    else:
        factors = test.factors.shape[1]
        votes = [factor_vae_votes(p.codes, draw_factors(p.factors, count, draw, True), factors) for p, count in counts]
        add("factor_vae_score", factor_vae_score(*votes), "images")
    pairs = [draw_factors(part.factors, count, draw, False) for part, count in counts]
    learnt, judged = (beta_vae_features(part.codes, drawn) for part, drawn in zip((train, test), pairs, strict=True))
    add("beta_vae_score", beta_vae_score(learnt, pairs[0].factor, judged, pairs[1].factor), "pairs")
