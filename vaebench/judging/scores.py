"""Scores of runs from judges' answers: preference, rating, and share taken for real. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri, stdtrit

from vaebench.judging.plan import CHOICE, RATING, REAL
from vaebench.judging.store import Answer, Judgements

LEVEL = 0.95
COLUMNS = {  # heading, unit, decimals, definition
    "preferred": ("preferred", "logits", 2, "Bradley–Terry strength from blind choices between two runs: the logit of "
                  "being preferred to the average of the judged runs; interval from the inverse Hessian"),
    "rated": ("rated", "of 5", 2, "mean of the judges’ ratings from 1 to 5; Student’s interval over ratings"),
    "fooled": ("taken for real", "%", 0, "share of the run’s images that judges took for test images; Wilson’s "
               "interval"),
}  # fmt: skip


@dataclass(frozen=True)
class JudgedScore:
    """One score of one run with its 95 % interval over n answers; without a value for the reason in `unavailable`.

    Intervals assume independent answers, also from one judge.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unavailable: str = ""


Scores = Mapping[str, Mapping[str, JudgedScore]]  # by the record's digest, then by column


def read_scores(path: Path) -> dict[str, dict[str, JudgedScore]]:
    """The scores in a file of judgements: by the record's digest, then by column of `COLUMNS`.

    Raises:
        UserError: there is no such file, or it holds no judgements.
    """
    file = Judgements(path)
    return scores(file.study().runs, file.answers())


def scores(runs: Sequence[str], answers: Sequence[Answer]) -> dict[str, dict[str, JudgedScore]]:
    """The scores of runs by digest and column, for the kinds of questions that were answered."""
    scored: dict[str, dict[str, JudgedScore]] = {run: {} for run in runs}
    place = {run: i for i, run in enumerate(runs)}
    wins = [
        (place[a.first], place[a.second]) if a.answer == "first" else (place[a.second], place[a.first])
        for a in answers
        if a.kind == CHOICE and a.first is not None and a.second is not None
    ]
    if wins:
        for run, strength in zip(runs, bradley_terry(len(runs), wins), strict=True):
            scored[run]["preferred"] = strength
    for run in runs:
        own = [a for a in answers if a.first == run]
        if ratings := [int(a.answer) for a in own if a.kind == RATING]:
            scored[run]["rated"] = mean(ratings)
        if shown := [a.answer == "real" for a in own if a.kind == REAL]:
            scored[run]["fooled"] = share(sum(shown), len(shown))
    return scored


def judged_columns(scores: Scores, runs: Iterable[str]) -> list[str]:
    """The columns of `COLUMNS` with a score for at least one of these runs."""
    having = {name for run in runs for name in scores.get(run, {})}
    return [name for name in COLUMNS if name in having]


def pooled(scores: Sequence[JudgedScore]) -> JudgedScore:
    """The mean over several runs of one variant, without an interval; the score itself where there is one."""
    known = [score.value for score in scores if score.value is not None]
    if len(scores) == 1 or not known:
        return scores[0]
    return JudgedScore(sum(known) / len(known), None, None, sum(score.n for score in scores))


def bradley_terry(n: int, wins: Sequence[tuple[int, int]]) -> list[JudgedScore]:
    r"""Strengths θ of n runs by maximum likelihood, with Σ θ = 0, and Wald intervals.

    .. math:: P(i \text{ is preferred to } j) = 1 / (1 + e^{θ_j - θ_i})

    Args:
        n: number of runs.
        wins: (winner, loser) of every choice.

    Reference:
        Bradley and Terry 1952, https://doi.org/10.2307/2334029; Maystre's choix, https://choix.lum.li.
    """
    import choix
    from scipy.sparse.csgraph import connected_components

    counts = np.zeros((n, n))
    np.add.at(counts, tuple(np.array(wins).T), 1)
    both = counts + counts.T
    answered = both.sum(1).astype(int).tolist()
    if connected_components(counts, connection="strong")[0] > 1:
        why = "no maximum likelihood: some runs won every choice against some others, or never met them"
        return [JudgedScore(None, None, None, k, why) for k in answered]
    theta = choix.ilsr_pairwise(n, list(wins))
    p = 1 / (1 + np.exp(theta[None] - theta[:, None]))
    information = both * p * (1 - p)
    hessian = np.diag(information.sum(1)) - information
    half = ndtri((1 + LEVEL) / 2) * np.sqrt(np.diag(np.linalg.pinv(hessian, hermitian=True)))
    return [JudgedScore(float(t), float(t - h), float(t + h), k) for t, h, k in zip(theta, half, answered, strict=True)]


def mean(values: Sequence[float]) -> JudgedScore:
    """The mean with Student's interval; a single value has none."""
    n, middle = len(values), float(np.mean(values))
    if n < 2:
        return JudgedScore(middle, None, None, n)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return JudgedScore(middle, middle - half, middle + half, n)


def share(k: int, n: int) -> JudgedScore:
    """k of n in per cent, with Wilson's interval.

    Reference:
        Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    >>> [round(x, 1) for x in (lambda s: (s.value, s.low, s.high))(share(3, 10))]
    [30.0, 10.8, 60.3]
    """
    from scipy.stats import binomtest  # takes a second to import

    low, high = binomtest(k, n).proportion_ci(LEVEL, "wilson")
    return JudgedScore(100 * k / n, 100 * float(low), 100 * float(high), n)
