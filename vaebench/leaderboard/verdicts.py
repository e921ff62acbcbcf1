"""Verdicts on published figures by the statistics of the boards: on repeats, and on claims that a model is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from vaebench.leaderboard.comparable import BITS, ELBO, LOG_LIKELIHOOD
from vaebench.leaderboard.moderation import Evidence, Trainings, trainings
from vaebench.leaderboard.noise import LEVEL, Drawn, Seeds, of_difference
from vaebench.leaderboard.published import Figure
from vaebench.leaderboard.ranking import significant
from vaebench.records import RunRecord

Repeat = Literal["equal", "better", "worse", "not decidable"]
Judgement = Literal["holds", "not decidable", "reversed"]
ALIKE = {LOG_LIKELIHOOD: 1.0, ELBO: 1.0, BITS: 0.01, "active_units": 3.0}  # negligible differences by metric
MANY = 10**9  # images; both figures have the same test set, which is not a sample here


@dataclass(frozen=True)
class Repeated:
    """A published figure with its repeat.

    Attributes:
        value: mean over seeds, with the sign of boards. seeds: their number.
        over_seeds: standard error over seeds; None with one. over_images: mean standard error over images.
        difference: value minus the published one; positive is better. interval: 95 %, None where the noise over
            trainings is unknown.
        verdict: on the difference.
    """

    value: float
    seeds: int
    over_seeds: float | None
    over_images: float | None
    difference: float
    interval: tuple[float, float] | None
    verdict: Repeat


def measured(figure: Figure, record: RunRecord) -> tuple[float, float | None]:
    """A record's value of a published metric, and its standard error over images; one sample gives the ELBO.

    Raises:
        KeyError: the record has no such metric.
    """
    name, scale = figure.metric, 1.0
    if figure.samples == 1 and figure.metric in (LOG_LIKELIHOOD, BITS):
        name = ELBO
        if figure.metric == BITS:
            scale = -1 / (math.prod(record.data["shape"]) * math.log(2))
    value, error = record.value(name), record.error(name)
    if value is None:
        raise KeyError(name)
    return scale * value, None if error is None else abs(scale) * error


def rounding(written: str) -> float:
    """Variance of the rounding error of a printed figure, uniform within half a unit of its last decimal.

    >>> round(rounding("0.19") ** 0.5, 5), rounding("19") ** 0.5 < 0.3
    (0.00289, True)
    """
    return float(10.0 ** (-2 * len(written.partition(".")[2])) / 12)


def repeated(figure: Figure, records: Sequence[RunRecord], redrawn: float = 0.0) -> Repeated:
    """The verdict on a repeat: whether the difference is inside the noise of trainings, and small.

    Both sides have the same test images, which are not a sample. Random differences come from trainings, where a side
    without a spread uses that of the other; from the rounding of the published figure; and from the binarisation of the
    test images where it is random. With one training on each side nothing is decided.

    Args:
        figure: as published.
        records: of this setting, one per seed.
        redrawn: standard error over draws of the test images' bits, in the unit of the metric.
    """
    values, errors = zip(*(measured(figure, record) for record in records), strict=True)
    known = [error for error in errors if error is not None]
    mean, number, sign = float(np.mean(values)), len(values), -1 if figure.metric == BITS else 1
    own = np.array(np.var(values, ddof=1) / number if number > 1 else math.nan)
    spread, several = float(figure.spread.split()[0] or 0) if figure.trainings else math.nan, figure.trainings or 1
    theirs = np.array(spread**2 / several)
    difference, interval = sign * (mean - figure.value), None
    if number > 1 or figure.trainings:
        chance = np.array(rounding(figure.written) + redrawn**2)
        first, second = Seeds(own, own, np.array(float(number))), Seeds(theirs, theirs, np.array(float(several)))
        half = float(of_difference(chance, MANY, first, second).half_width())
        interval = (difference - half, difference + half)
    return Repeated(
        value=mean,
        seeds=number,
        over_seeds=float(np.sqrt(own)) if number > 1 else None,
        over_images=float(np.mean(known)) if known else None,
        difference=difference,
        interval=interval,
        verdict=_repeat(interval, ALIKE[figure.metric]),
    )


def same_weights(figure: Figure, value: float, error: float) -> Repeat:
    """The verdict on published weights, for which only noise of the estimate and rounding differ.

    Args:
        figure: as published.
        value: of the same weights, measured here, in the figure's unit.
        error: standard error of the value.
    """
    half = float(ndtri((1 + LEVEL) / 2)) * math.sqrt(error**2 + rounding(figure.written))
    difference = (-1 if figure.metric == BITS else 1) * (value - figure.value)
    return _repeat((difference - half, difference + half), ALIKE[figure.metric])


def _repeat(interval: tuple[float, float] | None, alike: float) -> Repeat:
    if interval is None:
        return "not decidable"
    if interval[0] > 0 or interval[1] < 0:
        return "better" if interval[0] > 0 else "worse"
    return "equal" if max(-interval[0], interval[1]) <= alike else "not decidable"


@dataclass(frozen=True)
class JudgedClaim:
    """The verdict on a claim that one model is better than another, by the published spreads.

    Attributes:
        difference: claimed, in the unit of the metric; positive as published.
        interval, p: 95 % interval and two-sided p-value for this pair alone; None where no spread is known.
        verdict: 'holds' where the difference is significant among all pairs of its table.
    """

    difference: float
    interval: tuple[float, float] | None
    p: float | None
    verdict: Judgement


def judge_claim(better: str, worse: str, table: Sequence[Sequence[Figure]]) -> JudgedClaim:
    """Judges a claim by the spreads over trainings in its table.

    Variances of all groups are moderated together as on a board (`moderation.py`), and all pairs are compared at once.
    Figures without a spread borrow that of the others where these have enough degrees of freedom.

    Args:
        better, worse: ids of the first figures of two groups.
        table: groups measured in the same way: one figure with a spread over trainings, one without, or one for each
            training.
    """
    means, sizes, noise, cut = _table(table)
    names = [group[0].id for group in table]
    i, j = names.index(better), names.index(worse)
    sign = -1 if table[i][0].metric == BITS else 1
    difference = sign * float(means[i] - means[j])
    pair = noise.of(i, j)
    if not pair.known.all():
        return JudgedClaim(difference, None, None, "not decidable")
    seeds = np.sort((pair.variances / sizes[[i, j]]).sum(1))
    drawn = Drawn(float(cut[i] + cut[j]), MANY, seeds)
    half = drawn.half_width()
    kept = [k for k in range(len(names)) if noise.known[k]]
    separated = significant(means[kept], np.diag(cut[kept]), MANY, noise.variances[:, kept] / sizes[kept])
    apart = bool(separated[kept.index(i), kept.index(j)])
    verdict: Judgement = "not decidable" if not apart else "holds" if difference > 0 else "reversed"
    return JudgedClaim(difference, (difference - half, difference + half), drawn.p(difference), verdict)


def _table(table: Sequence[Sequence[Figure]]) -> tuple[np.ndarray, np.ndarray, Trainings, np.ndarray]:
    """Means (m,), numbers of trainings (m,), draws of their noise, and the variance of rounding (m,)."""
    variances, sizes = [], []
    for group in table:
        first = group[0]
        if len(group) > 1:
            variances.append(float(np.var([figure.value for figure in group], ddof=1)))
            sizes.append(len(group))
        else:
            variances.append(float(first.spread.split()[0]) ** 2 if first.trainings else 0.0)
            sizes.append(first.trainings or 1)
    numbers = np.array(sizes, dtype=float)
    noise = trainings(Evidence(np.array(variances), numbers - 1, np.zeros(len(table))))
    means = np.array([np.mean([figure.value for figure in group]) for group in table])
    cut = np.array([rounding(group[0].written) / len(group) for group in table])
    return means, numbers, noise, cut
