"""Adds seeds to a benchmark until its comparisons are decided, or its budget is spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.errors import UserError
from vaebench.leaderboard.comparable import LOG_LIKELIHOOD
from vaebench.leaderboard.figures import of_images, seed_scores
from vaebench.leaderboard.sequential import Course, Until
from vaebench.records import RunRecord, read_record
from vaebench.running.benchmark import Benchmark

if TYPE_CHECKING:
    from vaebench.running.bench import Ended

MOST = 20  # default maximum of seeds per variant


class UntilDecided:
    """A benchmark whose variants get further seeds while one of their comparisons is open.

    It starts with the seeds of the file. After each look, every variant of an open comparison gets one more seed, the
    successor of its highest. Looks follow the order of seeds and depend on the records alone, so that an interrupted
    benchmark repeats them identically.

    Args:
        benchmark: with comparisons.
        run: runs the trainings of a benchmark, as `bench` does.
        most: maximum of seeds per variant.
        minutes: core-minutes of all its records after which no seed is added; None: no limit.

    Attributes:
        until: the comparisons and their looks.
        spent: core-minutes of all records so far.

    Raises:
        UserError: the benchmark names no comparison, or more seeds than `most`.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        run: Callable[[Benchmark], Iterator[Ended]],
        most: int = MOST,
        minutes: float | None = None,
    ) -> None:
        if not benchmark.compare:
            raise UserError(
                f"'{benchmark.name}' names nothing to decide: expected pairs of variants, such as "
                "'compare: [[iwae, vae]]'; add them to the benchmark file"
            )
        first = len({run.seed for run in benchmark.runs})
        if most < first:
            raise UserError(f"--most-seeds cannot be {most}: '{benchmark.name}' has {first} seeds already; raise it")
        self.until = Until(benchmark.compare, most)
        self.spent, self._minutes, self._most = 0.0, minutes, most
        self._benchmark, self._run, self._metric = benchmark, run, benchmark.rank or LOG_LIKELIHOOD
        self._records: dict[str, list[RunRecord]] = {run.variant: [] for run in benchmark.runs}

    def __iter__(self) -> Iterator[Ended]:
        """Runs missing trainings, round by round, and yields the end of each."""
        runs = self._benchmark.runs
        last = {run.variant: run for run in sorted(runs, key=lambda run: run.seed)}
        tried = {name: sum(run.variant == name for run in runs) for name in last}
        while runs:
            for ended in self._run(replace(self._benchmark, runs=runs)):
                if not ended.reason:
                    self._add(ended.training.variant, ended.place)
                yield ended
            self._look()
            if self._minutes is not None and self.spent >= self._minutes:
                return
            more = [name for name in self.until.wanted if tried[name] < self._most]
            last |= {name: last[name].seeded(last[name].seed + 1) for name in more}
            tried |= {name: tried[name] + 1 for name in more}
            runs = [last[name] for name in more]

    def _add(self, variant: str, place: Path) -> None:
        record = read_record(place)
        self._records[variant].append(record)
        seconds = sum(float(record.times.get(name, 0)) for name in ("train_seconds", "evaluate_seconds"))
        self.spent += seconds * float(record.cost.get("threads", 1)) / 60

    def _look(self) -> None:
        images = of_images([record for records in self._records.values() for record in records], self._metric)
        every = {name: seed_scores(records, self._metric, images) for name, records in self._records.items() if records}
        self.until.look({name: run for name, run in every.items() if run is not None})

    def verdicts(self) -> Iterator[str]:
        """The result of every comparison, as a sentence."""
        for course in self.until.courses:
            yield _verdict(course, self._metric, self._sign())

    def _sign(self) -> int:
        """1 where a higher value is better, −1 where a lower one is."""
        known = [r.metrics.get(self._metric, {}) for records in self._records.values() for r in records]
        return -1 if any(metric.get("higher_is_better") is False for metric in known) else 1


def _verdict(course: Course, metric: str, sign: int) -> str:
    if not course.looks:
        return f"{course.first} and {course.second}: not decided, for no two seeds of both have a {metric}."
    look = course.looks[-1]
    seeds = f"{look.seeds[0]} and {look.seeds[1]} seeds"
    what = f"a difference of {abs(look.difference):.4g} in {metric}"
    if not course.decided:
        return f"{course.first} and {course.second}: not decided after {seeds}, {what}, p = {look.p:.2g}."
    better, worse = (course.first, course.second) if course.better * sign > 0 else (course.second, course.first)
    return f"{better} is better than {worse}: decided after {seeds}, {what}, p = {look.p:.2g} < {look.level:.2g}."
