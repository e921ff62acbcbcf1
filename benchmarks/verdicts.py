"""How often boards tell equal variants apart, and different ones, by simulation: by the former rule and by the present.

    OMP_NUM_THREADS=1 python benchmarks/verdicts.py [--rounds 400] [--only equal] [--seed 0] [--results DIR]

A board has m variants; a variant's seeds scatter by its own standard deviation (1, or as the row says), images add a
standard error of 0.22 to a mean, and noise that changes with image and seed 0.32 to a training's. Of equal variants the
share of boards with any false verdict is printed, which should be 5 %; of others also the share of pairs found.
`--results` cuts the seeds of each variant of twenty seeds into variants of one and two seeds, all of which are equal.

The former rule: each pair by its own seeds' variance, cut at zero and without a tail where chance made it small; where
one has one seed, the other's stands for both; none where both have one; then Holm over all pairs. The present one:
`ranking.significant` with the noise of `moderation.py`. A board may also leave rows undecided; these are never false,
and never found.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaebench.leaderboard.boards import boards
from vaebench.leaderboard.figures import seed_scores
from vaebench.leaderboard.moderation import Evidence, evidence, trainings
from vaebench.leaderboard.noise import Seeds, of_difference
from vaebench.leaderboard.ranking import better, significant
from vaebench.records import read_records

IMAGES, OVER_IMAGES, REST = 5000, 0.05, 0.1  # how many; variances of a mean
DRAWS = 2000


class Setting(NamedTuple):
    """Of one board: numbers of seeds, true means, and standard deviations over trainings, (m,) each."""

    seeds: np.ndarray
    means: np.ndarray
    deviations: np.ndarray


class Board(NamedTuple):
    """What is measured: means (m,), their covariance over images (m, m), and what seeds say."""

    means: np.ndarray
    images: np.ndarray
    seeds: np.ndarray
    evidence: Evidence


Make = Callable[[np.random.Generator], Setting]


def board(rng: np.random.Generator, setting: Setting) -> Board:
    """One board, drawn."""
    seeds, m = setting.seeds, len(setting.seeds)
    variance, freedom = setting.deviations**2 + REST, seeds - 1.0
    means = setting.means + rng.normal(0, np.sqrt(variance / seeds)) + rng.normal(0, np.sqrt(OVER_IMAGES), m)
    found = np.where(freedom > 0, variance * rng.chisquare(np.maximum(freedom, 1)) / np.maximum(freedom, 1), 0)
    known = Evidence(found, freedom, np.where(freedom > 0, REST, 0))
    return Board(means, np.diag(OVER_IMAGES + REST / seeds), seeds, known)


def before(one: Board) -> np.ndarray:
    """Which pairs the rule of before tells apart, (m, m)."""
    m, number = len(one.means), one.seeds.astype(float)
    raw = np.where(number > 1, one.evidence.variance / number, np.nan)
    net = np.where(number > 1, np.maximum(raw - one.evidence.chance / number, 0), np.nan)
    rows, columns = np.triu_indices(m, 1)
    own = np.diagonal(one.images)
    pairs = own[rows] + own[columns] - 2 * one.images[rows, columns]
    parts = (Seeds(raw[side], net[side], number[side]) for side in (rows, columns))
    p = of_difference(pairs, IMAGES, *parts).p(one.means[rows] - one.means[columns])
    told, order = np.zeros((m, m), dtype=bool), np.argsort(p)
    passed = order[np.cumprod(p[order] * (len(p) - np.arange(len(p))) < 0.05).astype(bool)]
    told[rows[passed], columns[passed]] = True
    return told | told.T


def now(one: Board, seed: int) -> tuple[np.ndarray, bool]:
    """Which pairs are told apart now, and whether the board declines to decide."""
    noise = trainings(one.evidence, draws=DRAWS, seed=seed)
    ranked = np.flatnonzero(noise.known & (not noise.two_cannot_decide))
    told = np.zeros(one.images.shape, dtype=bool)
    if len(ranked) > 1:
        inside, variances = np.ix_(ranked, ranked), noise.variances[:, ranked] / one.seeds[ranked]
        told[inside] = significant(one.means[ranked], one.images[inside], IMAGES, variances, seed=seed)
    return told, len(ranked) < len(one.means)


def same(seeds: Sequence[int], spread: float = 0.0) -> Make:
    """Equal variants, whose log deviations scatter by `spread`."""
    number = np.array(seeds)
    return lambda rng: Setting(number, np.zeros(len(number)), np.exp(spread * rng.normal(size=len(number))))


def noisy(seeds: Sequence[int], deviation: float) -> Make:
    """Equal variants, of which the last has a larger deviation over trainings."""
    number = np.array(seeds)
    deviations = np.append(np.ones(len(number) - 1), deviation)
    return lambda _: Setting(number, np.zeros(len(number)), deviations)


def heavy(seeds: Sequence[int], freedom: float) -> Make:
    """Equal variants, whose variances over trainings are inverse chi-square: what the model does not assume."""
    number = np.array(seeds)
    return lambda rng: Setting(
        number, np.zeros(len(number)), np.sqrt(freedom / rng.chisquare(freedom, size=len(number)))
    )


def halves(seeds: Sequence[int], deviation: float) -> Make:
    """Equal variants, half of which have a larger deviation over trainings."""
    number = np.array(seeds)
    deviations = np.where(np.arange(len(number)) % 2, deviation, 1.0)
    return lambda _: Setting(number, np.zeros(len(number)), deviations)


def ladder(seeds: Sequence[int], step: float = 1.0) -> Make:
    """Variants whose means lie `step` deviations over trainings apart."""
    number = np.array(seeds)
    return lambda rng: Setting(rng.permutation(number), step * np.arange(len(number)), np.ones(len(number)))


MIXED = [1, 2, 3, 5, 10, 20]
SETTINGS: dict[str, Make] = {
    **{
        f"equal noise: {m} variants of {s} seeds": same([s] * m)
        for s in (2, 3, 5, 20)
        for m in (2, 3, 10, 24, 60, 100)
        if s < 5 or m in (2, 10, 60)
    },
    "equal noise: 12 variants of 2, 3, 5, 20 seeds": same([2, 3, 5, 20] * 3),
    "equal noise: 24 variants of 1, 2, 3, 5, 10, 20 seeds": same(MIXED * 4),
    "equal noise: 15 variants of 1 seed, 5 of 3": same([1] * 15 + [3] * 5),
    "equal noise: 40 variants of 1 seed, 3 of 5": same([1] * 40 + [5] * 3),
    "equal noise: 56 variants of 1 seed": same([1] * 56),
    **{
        f"log-normal noise, sd × exp({spread} N(0, 1)): {m} variants of {s} seeds": same([s] * m, spread)
        for spread in (0.5, 1.0)
        for s in (3, 5, 20)
        for m in (3, 10, 30, 60)
        if s == 3 or m == 10
    },
    "log-normal noise, sd × exp(1.0 N(0, 1)): 24 variants of 3, 5, 10 seeds": same([3, 5, 10] * 8, 1.0),
    **{
        f"log-normal noise, sd × exp({spread} N(0, 1)): {m} variants of 2 seeds": same([2] * m, spread)
        for spread in (0.5, 1.0)
        for m in (3, 10, 30)
    },
    "inverse chi-square noise, 3 degrees of freedom: 20 variants of 3 seeds": heavy([3] * 20, 3),
    "half of them 10 times as noisy: 20 variants of 3 seeds": halves([3] * 20, 10),
    **{
        f"quiet group against one noisy run, sd × {r}: {m} variants of 3 seeds, 1 of 1": noisy([3] * m + [1], r)
        for r in (5, 10)
        for m in (1, 2, 4, 10, 30)
    },
    "quiet group against one noisy run, sd × 10: 2 variants of 20 seeds, 1 of 1": noisy([20] * 2 + [1], 10),
    "quiet group against a noisy variant, sd × 8: 13 variants of 3 seeds": noisy([3] * 13, 8),
    **{f"a deviation apart: 20 variants of {s} seeds": ladder([s] * 20) for s in (2, 3, 5, 10)},
    "a deviation apart: 15 variants of 1 seed, 5 of 3": ladder([1] * 15 + [3] * 5),
    "5 deviations apart: 15 variants of 1 seed, 5 of 3": ladder([1] * 15 + [3] * 5, 5.0),
    "20 deviations apart: 15 variants of 1 seed, 5 of 3": ladder([1] * 15 + [3] * 5, 20.0),
}


class Rates(NamedTuple):
    """Shares of boards with a false verdict, and of truly different pairs that are found (NaN: there are none)."""

    false_before: float
    false_now: float
    found_before: float
    found_now: float
    declined: float


def simulate(make: Make, rounds: int, seed: int = 0) -> Rates:
    """Draws boards and counts; `declined` is the share of boards where some rows have no rank now."""
    rng, rows = np.random.default_rng(seed), []
    for index in range(rounds):
        setting = make(rng)
        one = board(rng, setting)
        truth = np.sign(setting.means[:, None] - setting.means)
        right = np.sign(one.means[:, None] - one.means) == truth
        (after, declined), earlier = now(one, 10**6 * seed + index), before(one)
        wrong = [float((told & ~right).any()) for told in (earlier, after)]
        found = [(told & right)[truth != 0].mean() if truth.any() else np.nan for told in (earlier, after)]
        rows.append([*wrong, *found, float(declined)])
    return Rates(*np.mean(rows, 0))


def cuts(results: Path, rounds: int) -> Iterator[tuple[str, int, int, float]]:
    """Of each variant with twenty seeds: name, seeds of a cut, number of cuts, share of boards with a false verdict.

    The cuts stand on the board of the other variants, whose noise they share; the seeds are dealt out anew each time.
    """
    for one in boards(read_records(results), "log_likelihood"):
        every = {row.variant: seed_scores(row.records, one.score) for row in one.rows}
        scored = {name: found for name, found in every.items() if found is not None}
        for name, found in scored.items():
            others = [other for key, other in scored.items() if key != name]
            for size in (1, 2) if len(found) >= 20 else ():
                rng, wrong, count = np.random.default_rng(0), 0, len(found) // size
                for _ in range(rounds):
                    pieces = list(found[rng.permutation(len(found))[: count * size]].reshape(count, size, -1))
                    noise = trainings(evidence(pieces + others), draws=DRAWS)
                    if noise.known.all() and not noise.two_cannot_decide:
                        wrong += better(pieces + others, noise)[:count, :count].any()
                yield f"{name} cut into {count} of {size}", size, count, wrong / rounds


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.1%}".replace("%", " %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--only", default="", help="only settings whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="cut the variants of twenty seeds below this directory instead")
    options = parser.parse_args()
    if options.results:
        for label, _, _, share in cuts(options.results, options.rounds):
            print(f"{label}: {_percent(share)} of boards tell some apart", flush=True)
    else:
        print("| setting | false before | false now | found before | found now | boards with rows undecided |")
        print("| :-- | --: | --: | --: | --: | --: |")
        for label, make in SETTINGS.items():
            if options.only in label:
                print(
                    f"| {label} | {' | '.join(map(_percent, simulate(make, options.rounds, options.seed)))} |",
                    flush=True,
                )
