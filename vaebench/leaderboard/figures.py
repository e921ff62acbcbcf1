"""Metrics of records as boards use them: arrays over seeds and images, and means with standard errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vaebench.leaderboard.comparable import computed_from, in_units
from vaebench.leaderboard.statistics import Estimate, estimate
from vaebench.leaderboard.trust import UNTRUSTED, untrusted_share
from vaebench.records import RunRecord


def value(record: RunRecord, metric: str) -> float | None:
    """The value of a metric, or of `UNTRUSTED`; None where the run has none."""
    return untrusted_share(record) if metric == UNTRUSTED else record.value(metric)


def by_seed(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The runs of each seed, ascending."""
    return [[r for r in records if r.seed == seed] for seed in sorted({r.seed for r in records})]


def of_images(records: Iterable[RunRecord], score: str) -> bool:
    """Whether any of these runs has a value for every image; otherwise they are ranked over seeds alone."""
    return any(record.value(score) is not None and computed_from(score) in record.per_image() for record in records)


def seed_scores(records: Sequence[RunRecord], score: str, images: bool = True) -> np.ndarray | None:
    """Scores of a variant; None unless every run has finite ones. Runs of equal seed are averaged.

    Args:
        records: its runs.
        score: name of the metric.
        images: values for each seed and image, (seeds, n); otherwise one for each seed, (seeds, 1).
    """
    shape, seeds = (records[0].protocol["n"] if images else 1,), []
    for runs in by_seed(records):
        arrays = [of_run(r, score, images) if r.value(score) is not None else None for r in runs]
        usable = [a for a in arrays if a is not None and a.shape == shape and np.isfinite(a).all()]
        if len(usable) < len(runs):
            return None
        seeds.append(np.mean(usable, 0, dtype=np.float64))
    return np.stack(seeds) if shape[0] > 1 or not images else None


def of_run(record: RunRecord, score: str, images: bool = True) -> np.ndarray | None:
    """Per-image values of a run, (n,), with NLL and bits/dim from log-likelihoods; or the run's value, (1,)."""
    if not images:
        return np.array([record.value(score)], dtype=np.float64)
    values = record.per_image().get(computed_from(score))
    if computed_from(score) == score:
        return values
    return None if values is None else -values / in_units(record, score)


def estimates(records: Sequence[RunRecord], metrics: Iterable[str]) -> dict[str, Estimate]:
    """Means over seeds of the metrics that at least one run has."""
    estimated = {}
    for metric in metrics:
        seeds = [[known for r in runs if (known := value(r, metric)) is not None] for runs in by_seed(records)]
        values = [float(np.mean(runs)) for runs in seeds if runs]
        if values:
            errors = [r.error(metric) for r in records if value(r, metric) is not None]
            estimated[metric] = estimate(values, errors, records[0].protocol["n"])
    return estimated
