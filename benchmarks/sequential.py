"""How often `bench --until-decided` calls equal variants different, and how many seeds it takes, by simulation.

    OMP_NUM_THREADS=1 python benchmarks/sequential.py [--rounds 400] [--only equal] [--seed 0]

A benchmark has a first variant, with which each other is compared. Trainings scatter by a standard deviation of 1 (or
as the row says), test images add a standard error of `images` to a mean, and noise that changes with image and seed 0.3
to a training's. All start with `first` seeds; a variant gets one more as long as one of its comparisons is open, up to
`most`. Of equal variants the share of benchmarks with any false call is printed, which should be below 5 %, beside that
of who stops at the first p < 5 %; of others also the share of comparisons called, and the mean number of seeds.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from vaebench.leaderboard.sequential import Until

IMAGES, REST = 60, 0.3


class Setting(NamedTuple):
    """One benchmark.

    variants: how many. first, most: seeds. images: standard error over images. spread: of log deviations over
    trainings. apart: of each other variant's mean from the first one's, in deviations over trainings.
    """

    variants: int = 2
    first: int = 3
    most: int = 12
    images: float = 0.2
    spread: float = 0.0
    apart: float = 0.0


class Rates(NamedTuple):
    """Shares of benchmarks with a false call, by the rule and by p < 5 %; of comparisons called; mean seeds."""

    wrong: float
    peeking: float
    called: float
    seeds: float


SETTINGS = {
    "equal: 2 variants, 2 to 10 seeds": Setting(first=2, most=10),
    "equal: 2 variants, 3 to 12 seeds": Setting(),
    "equal: 2 variants, 3 to 30 seeds": Setting(most=30),
    "equal: 2 variants, 3 to 12 seeds, images rule": Setting(images=2.0),
    "equal: 4 variants, 2 to 10 seeds": Setting(variants=4, first=2, most=10),
    "equal: 6 variants, 3 to 12 seeds": Setting(variants=6),
    "equal, log-normal noise sd × exp(0.5 N(0, 1)): 2 variants, 3 to 12 seeds": Setting(spread=0.5),
    "equal, log-normal noise sd × exp(1.0 N(0, 1)): 2 variants, 3 to 12 seeds": Setting(spread=1.0),
    "equal, log-normal noise sd × exp(1.0 N(0, 1)): 6 variants, 3 to 12 seeds": Setting(variants=6, spread=1.0),
    "1 deviation apart: 2 variants, 3 to 30 seeds": Setting(most=30, apart=1.0),
    "2 deviations apart: 2 variants, 3 to 12 seeds": Setting(apart=2.0),
    "4 deviations apart: 2 variants, 3 to 12 seeds": Setting(apart=4.0),
    "2 deviations apart: 6 variants, 3 to 12 seeds": Setting(variants=6, apart=2.0),
}


def simulate(setting: Setting, rounds: int, seed: int = 0) -> Rates:
    """Draws benchmarks and runs each to its end."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(rounds):
        figures = drawn(rng, setting)
        names = list(figures)
        until = Until([(name, names[0]) for name in names[1:]], setting.most)
        number = dict.fromkeys(names, setting.first)
        while True:
            until.look({name: figures[name][: number[name]] for name in names})
            more = [name for name in until.wanted if number[name] < setting.most]
            if not more:
                break
            number |= {name: number[name] + 1 for name in more}
        wrong = any(course.decided and not course.better * setting.apart > 0 for course in until.courses)
        peeking = any(look.p < 0.05 for course in until.courses for look in course.looks)
        called = np.mean([course.decided for course in until.courses])
        rows.append((wrong, peeking, called, np.mean(list(number.values()))))
    return Rates(*(float(value) for value in np.mean(rows, 0)))


def drawn(rng: np.random.Generator, setting: Setting) -> dict[str, np.ndarray]:
    """Figures (most, images) of every variant."""
    shared = rng.normal(-90, 10, IMAGES)
    found = {}
    for index in range(setting.variants):
        deviation = np.exp(setting.spread * rng.normal())
        luck = rng.normal(0, deviation, (setting.most, 1))
        taste = rng.normal(0, setting.images * np.sqrt(IMAGES), IMAGES)
        rest = rng.normal(0, REST * np.sqrt(IMAGES), (setting.most, IMAGES))
        found[f"variant {index}"] = shared + setting.apart * (index > 0) + luck + taste + rest
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--only", default="", help="only settings whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| setting | false calls | by p < 5 % at any look | called | seeds a variant |")
    print("| :-- | --: | --: | --: | --: |")
    for label, one in SETTINGS.items():
        if options.only in label:
            found = simulate(one, options.rounds, options.seed)
            told = "–" if one.apart else f"{found.peeking:.1%}", f"{found.called:.1%}" if one.apart else "–"
            shown = f"{found.wrong:.1%} | {told[0]} | {told[1]}".replace("%", " %")
            print(f"| {label} | {shown} | {found.seeds:.1f} |", flush=True)
