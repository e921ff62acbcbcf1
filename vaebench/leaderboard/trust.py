"""How far the estimate of a likelihood can be trusted: what its samples leave open, and what stands in for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaebench.leaderboard.comparable import BITS, LOG_LIKELIHOOD, NLL, in_units
from vaebench.records import RunRecord

CHANGE = "log_likelihood_change"  # by how much the estimate rises from K/10 to K samples
GAPS = ("bracket_gap", "certificate_gap")  # between it and what lies above it: AIS, and an upper bound on made images
UNTRUSTED = "untrusted"  # share of the images, in per cent, whose importance weights are not to be trusted
MOST = 50.0  # per cent: a refined estimate of which more is untrusted decides nothing
ESTIMATED = (LOG_LIKELIHOOD, NLL, BITS)  # scores that are estimated from importance weights


def untrusted(record: RunRecord) -> float | None:
    """The share of a run's images whose weights are not to be trusted, per cent; None where it was not looked at."""
    share = record.value("untrusted_images")
    return None if share is None else 100 * share / record.protocol["n"]


def stands_in(record: RunRecord) -> str:
    """Why another bound stands in for the refined estimate that was asked for; empty where none does."""
    proposal = record.tables.get("proposal", {})
    asked, used = proposal.get("asked"), proposal.get("used")
    return str(proposal.get("reason") or "there is none") if asked == "refined" and used != asked else ""


def undecided(records: Sequence[RunRecord], score: str) -> str:
    """Why the runs of a variant have a score that decides nothing; empty where it does.

    The encoder's own samples leave most images of most models untrusted: boards of them say so in their heads. A
    proposal that was refined for each image and is untrusted even so has failed.
    """
    if score not in ESTIMATED:
        return ""
    reasons = [reason for record in records if (reason := stands_in(record))]
    if reasons:
        return f"the encoder's bound stands in for a refined estimate: {reasons[0]}"
    refined = [record for record in records if record.tables.get("proposal", {}).get("used") == "refined"]
    shares = [share for record in refined if (share := untrusted(record)) is not None]
    if shares and np.mean(shares) > MOST:
        return f"on {np.mean(shares):.0f} % of its images the weights of the estimate are not to be trusted (k̂ > 0.7)"
    return ""


def open_ends(variants: Sequence[Sequence[RunRecord]], score: str) -> np.ndarray:
    """By how much the estimator alone may move the difference of each pair of variants, (m, m), in the score's unit.

    The rise of the difference from K/10 to K samples, and the widest of the gaps of the two, where there are some: the
    truth of each lies above its estimate by its own gap at most, as far as chains and certificate can say.
    """
    if score not in ESTIMATED:
        return np.zeros((len(variants), len(variants)))
    rises = np.array([_mean(runs, CHANGE) for runs in variants])
    gaps = np.array([max(0.0, *(_mean(runs, name) for name in GAPS)) for runs in variants])
    distances = np.abs(rises[:, None] - rises) + np.maximum(gaps[:, None], gaps)
    np.fill_diagonal(distances, 0)
    return distances / in_units(variants[0][0], score) if len(variants) else distances


def _mean(runs: Sequence[RunRecord], name: str) -> float:
    """Of the runs that have a figure; 0 where none has, so that it opens nothing."""
    known = [value for run in runs if (value := run.value(name)) is not None]
    return float(np.mean(known)) if known else 0.0
