"""`bench --until-decided`: which seeds are added, when it ends, and what it says; runs are records that are made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_records import write_fake

from vaebench.errors import UserError
from vaebench.running.bench import Ended
from vaebench.running.benchmark import Benchmark, BenchmarkRun, read_benchmark
from vaebench.running.until import UntilDecided

MEANS = {"base": 0.0, "far": 3.0, "same": 0.0}
MINUTES = (12.5 + 3.25) / 60  # of a fake record


class Runs:
    """Writes a record for each run that has none, and remembers which they were."""

    def __init__(self, folder: Path, failing: str = "") -> None:
        self.folder, self.failing, self.made = folder, failing, list[tuple[str, int]]()

    def __call__(self, benchmark: Benchmark) -> Iterator[Ended]:
        for run in benchmark.runs:
            place = self.folder / f"{run.variant}-s{run.seed}"
            if run.variant == self.failing:
                yield Ended(run, place, reason="it diverged")
                continue
            if not place.is_dir():
                self.made.append((run.variant, run.seed))
                rng = np.random.default_rng([len(run.variant), ord(run.variant[0]), run.seed])
                write_fake(place, rng, MEANS[run.variant], variant=run.variant, seed=run.seed)
            yield Ended(run, place)


def benchmark(*compare: tuple[str, str], seeds: int = 3) -> Benchmark:
    runs = [BenchmarkRun(name, seed, [f"--seed_everything={seed}"]) for name in MEANS for seed in range(seeds)]
    return Benchmark("made up", {}, runs, compare=compare)


def test_seeds_are_added_where_a_comparison_is_open_and_to_no_other(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    until = UntilDecided(benchmark(("far", "base"), ("same", "base")), runs, most=5)
    ended = list(until)
    assert sorted(runs.made) == [
        *(("base", seed) for seed in range(5)), *(("far", seed) for seed in range(3)),
        *(("same", seed) for seed in range(5)),
    ]  # fmt: skip
    assert [run.training.args for run in ended if run.training.seed == 4] == [["--seed_everything=4"]] * 2
    assert until.spent == pytest.approx(13 * MINUTES)
    first, second = until.verdicts()
    assert first.startswith("far is better than base: decided after 3 and 3 seeds")
    assert second.startswith("same and base: not decided after 5 and 5 seeds")


def test_an_interrupted_one_takes_the_same_looks_again_and_repeats_no_run(tmp_path: Path) -> None:
    named = benchmark(("same", "base"), ("far", "base"), seeds=2)
    whole = UntilDecided(named, Runs(tmp_path), most=4)
    list(whole)
    again = Runs(tmp_path)
    repeated = UntilDecided(named, again, most=4)
    list(repeated)
    assert not again.made
    assert [course.looks for course in repeated.until.courses] == [course.looks for course in whole.until.courses]


def test_it_ends_when_the_minutes_are_spent(tmp_path: Path) -> None:
    until = UntilDecided(benchmark(("same", "base")), Runs(tmp_path), most=20, minutes=10 * MINUTES)
    assert len(list(until)) == 9 + 2
    (verdict,) = until.verdicts()
    assert "not decided after 4 and 4 seeds" in verdict


def test_a_variant_whose_runs_fail_ends_too(tmp_path: Path) -> None:
    until = UntilDecided(benchmark(("same", "base")), Runs(tmp_path, failing="same"), most=4)
    assert len(list(until)) == 9 + 2
    (verdict,) = until.verdicts()
    assert "not decided, for no two seeds of both" in verdict


def test_what_cannot_be_decided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names nothing to decide"):
        UntilDecided(benchmark(), Runs(tmp_path))
    with pytest.raises(UserError, match="has 3 seeds already"):
        UntilDecided(benchmark(("same", "base")), Runs(tmp_path), most=2)


@pytest.mark.parametrize(
    ("compare", "message"),
    [("[[a, b]]", None), ("[[a, c]]", "variant 'c'"), ("[[a, a]]", "with itself"), ("[a, b]", "pairs of variants")],
)
def test_pairs_of_a_benchmark_file_are_checked(tmp_path: Path, compare: str, message: str | None) -> None:
    path = tmp_path / "b.yaml"
    path.write_text(f"compare: {compare}\nruns:\n  a: {{}}\n  b: {{}}\n")
    if message is None:
        assert read_benchmark(path).compare == (("a", "b"),)
    else:
        with pytest.raises(UserError, match=message):
            read_benchmark(path)
