"""Reliability of log-likelihood estimates: their remaining bias, and substitutes for missing ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaebench.leaderboard.comparable import BITS, LOG_LIKELIHOOD, NLL, in_units
from vaebench.records import RunRecord

CHANGE = "log_likelihood_change"  # rise of the estimate from K/10 to K samples
GAPS = ("bracket_gap", "certificate_gap")  # to higher estimates: AIS, and an upper bound on sampled images
UNTRUSTED = "untrusted"  # per cent of the images with unreliable importance weights
MOST = 50.0  # per cent; a refined estimate with more unreliable images is not ranked
ESTIMATED = (LOG_LIKELIHOOD, NLL, BITS)  # scores that are estimated from importance weights


def untrusted_share(record: RunRecord) -> float | None:
    """Share of a run's images with unreliable weights, per cent; None where it was not measured."""
    share = record.value("untrusted_images")
    return None if share is None else 100 * share / record.protocol["n"]


def stands_in(record: RunRecord) -> str:
    """Why another bound replaces the requested refined estimate; empty where none does."""
    proposal = record.tables.get("proposal", {})
    requested, used = proposal.get("asked"), proposal.get("used")
    return str(proposal.get("reason") or "there is none") if requested == "refined" and used != requested else ""


def undecided(records: Sequence[RunRecord], score: str) -> str:
    """Why the score of a variant's runs is too unreliable to rank; empty where it is not.

    With the encoder's own samples most images of most models are unreliable, which boards state in their heads. A
    refined proposal with unreliable weights has failed.
    """
    if score not in ESTIMATED:
        return ""
    reasons = [reason for record in records if (reason := stands_in(record))]
    if reasons:
        return f"the encoder's bound stands in for a refined estimate: {reasons[0]}"
    refined = [record for record in records if record.tables.get("proposal", {}).get("used") == "refined"]
    shares = [share for record in refined if (share := untrusted_share(record)) is not None]
    if shares and np.mean(shares) > MOST:
        return f"on {np.mean(shares):.0f} % of its images the weights of the estimate are not to be trusted (k̂ > 0.7)"
    return ""


def open_ends(variants: Sequence[Sequence[RunRecord]], score: str) -> np.ndarray:
    """Possible change of the difference of each pair of variants by the estimator alone, (m, m), in the score's unit.

    The change of the difference from K/10 to K samples, and the larger of the two measured gaps: the true value lies
    above an estimate by at most its gap, up to the accuracy of chains and certificate.
    """
    if score not in ESTIMATED:
        return np.zeros((len(variants), len(variants)))
    rises = np.array([_mean(runs, CHANGE) for runs in variants])
    gaps = np.array([max(0.0, *(_mean(runs, name) for name in GAPS)) for runs in variants])
    distances = np.abs(rises[:, None] - rises) + np.maximum(gaps[:, None], gaps)
    np.fill_diagonal(distances, 0)
    return distances / in_units(variants[0][0], score) if len(variants) else distances


def _mean(runs: Sequence[RunRecord], name: str) -> float:
    """Mean over the runs that have a metric; 0 where none has."""
    known = [value for run in runs if (value := run.value(name)) is not None]
    return float(np.mean(known)) if known else 0.0
