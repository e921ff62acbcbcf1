"""Seeds until a comparison is decided: published boundaries, a Brownian motion, and simulated benchmarks."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vaebench.leaderboard.sequential import Until, by_own_seeds, levels, spent

SIMULATED = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "sequential.py"))


def test_boundaries_are_those_that_are_published_for_five_equal_looks():
    """Of Lan and DeMets with O'Brien and Fleming's shape, two-sided 5 %: as ldbounds and gsDesign have them."""
    z = stats.norm.isf(levels([0.2, 0.4, 0.6, 0.8, 1.0]) / 2)
    assert z == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)


@pytest.mark.parametrize("fractions", [[1.0], [0.3, 0.3, 0.9, 0.9002, 0.93, 1.0], [s / 12 for s in range(2, 13)]])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_a_brownian_motion_without_drift_is_called_as_often_as_the_level_says(fractions, alpha):
    paths, times = 40_000, np.array(fractions)
    steps = np.random.default_rng(1).normal(size=(paths, len(times))) * np.sqrt(np.diff(times, prepend=0))
    p = 2 * stats.norm.sf(abs(np.cumsum(steps, 1)) / np.sqrt(times))
    calls = int((p < levels(fractions, alpha)).any(1).sum())
    assert stats.binomtest(calls, paths, alpha).pvalue > 1e-3


def test_a_look_that_knows_no_more_than_the_one_before_calls_nothing():
    found = levels([0.5, 0.5, 0.4, 1.0])
    assert found[1] == found[2] == 0
    assert found[[0, 3]] == pytest.approx(levels([0.5, 1.0]))
    assert spent(0.0) == 0
    assert spent(1.0) == pytest.approx(0.05)


def figures(means: dict[str, float], seeds: int, luck: float = 0.1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.normal(-90, 10, 50)
    return {
        name: shared + mean + rng.normal(0, luck, (seeds, 1)) + rng.normal(0, 0.1, (seeds, 50))
        for name, mean in means.items()
    }


def test_what_is_decided_stays_so_and_what_is_open_wants_seeds():
    every = figures({"base": 0.0, "far": 5.0, "near": 0.01}, 6)
    until = Until([("far", "base"), ("near", "base")], most=6)
    until.look({name: found[:3] for name, found in every.items()})
    (far, near) = until.courses
    assert far.decided
    assert far.better > 0
    assert until.wanted == ["near", "base"]
    for seeds in (4, 5, 6):
        until.look({name: found[: 3 if name == "far" else seeds] for name, found in every.items()})
    assert len(far.looks) == 1
    assert [look.seeds for look in near.looks] == [(3, 3), (4, 4), (5, 5), (6, 6)]
    assert near.looks[-1].fraction == 1
    fractions = [look.fraction for look in near.looks]
    assert fractions == sorted(fractions)
    assert [look.level for look in near.looks] == pytest.approx(levels(fractions, 0.025))


def test_a_look_believes_the_variants_own_seeds_where_they_say_less_than_the_moderated_noise():
    """Defect: of two equal variants whose noise differs widely, moderation drew the larger variance down, and 6.9 % of
    benchmarks called them different.
    """
    for sds, larger in (((0.05, 1.0), False), ((0.3, 0.3), True)):
        rng, moderated = np.random.default_rng(2), 0
        for _ in range(20):
            one, other = (rng.normal(0, sd, (4, 1)) + rng.normal(0, 0.1, (4, 50)) for sd in sds)
            until = Until([("one", "other")], most=8)
            until.look({"one": one, "other": other})
            (look,) = until.courses[0].looks
            paired = float((one.mean(0) - other.mean(0)).var(ddof=1)) / 50
            own = float(by_own_seeds(paired, [one, other]).p(np.array(look.difference)))
            assert look.p >= own - 1e-12
            moderated += look.p > own + 1e-9
        assert (moderated > 0) == larger


def test_a_difference_by_own_seeds_keeps_its_level_whatever_the_two_variances_are():
    rng, rounds = np.random.default_rng(3), 2000
    for ratio in (1.0, 3.0, 30.0):
        pairs = [[sd * rng.normal(size=(3, 1)) for sd in (1.0, ratio)] for _ in range(rounds)]
        found = [by_own_seeds(0.0, pair).p(np.array((pair[0] - pair[1]).mean())) < 0.01 for pair in pairs]
        assert stats.binomtest(int(np.sum(found)), rounds, 0.01, alternative="greater").pvalue > 1e-3


def test_one_seed_each_decides_nothing():
    until = Until([("a", "b")], most=5)
    until.look(figures({"a": 0.0, "b": 9.0}, 1))
    assert not until.courses[0].looks


def test_equal_variants_are_rarely_called_and_different_ones_mostly():
    simulate, setting, rounds = SIMULATED["simulate"], SIMULATED["Setting"], 40
    found = simulate(setting(first=2, most=6), rounds)
    assert stats.binomtest(round(found.wrong * rounds), rounds, 0.05, alternative="greater").pvalue > 0.02
    found = simulate(setting(apart=5.0, most=8), 8)
    assert found.called > 0.8
    assert found.seeds < 8
