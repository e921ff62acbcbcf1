"""`vaebench bench`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.commands._parser import logger_option

if TYPE_CHECKING:
    from vaebench.running.bench import Ended
    from vaebench.running.benchmark import Benchmark

HELP = "train, evaluate and record families × seeds; goes on where it stopped, and past runs that fail"
EXAMPLE = """\
vaebench bench digits --results results
vaebench bench digits --workers 2      # two runs at a time, each in a process of its own
vaebench bench digits --calibrate      # and what a step of each costs beside the plain VAE's"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the benchmark's YAML file, or the name of one of the suite's (digits)")
    parser.add_argument("--results", type=Path, default=Path("results"),
                        help="folder of records, each with the run's model.ckpt (default: results)")  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder of unfinished runs (default: runs)")
    parser.add_argument("--engine", choices=["solo", "population"], default="solo",
                     help="one run after another, or all that can be trained as one model (default: solo)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1,
                        help="runs at a time, each in a process of its own with its share of the cores, or on the "
                        "next GPU (default: 1)")  # fmt: skip
    parser.add_argument("--until-decided", action="store_true",
                        help="add seeds until the comparisons that the file names are decided")  # fmt: skip
    parser.add_argument("--most-seeds", type=int, default=20, help="that a variant may get for it (default: 20)")
    parser.add_argument("--core-minutes", type=float, help="of all its records, after which no seed is added for it")
    parser.add_argument("--calibrate", action="store_true",
                        help="time a training step of every variant in turns with the plain VAE's, and write the ratio "
                        "beside the records: `vaebench leaderboard --budget steps` compares by it")  # fmt: skip
    logger_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench bench`: runs what is missing and prints the leaderboard of the folder; 1 where a run has no record."""
    from vaebench.errors import UserError
    from vaebench.loggers import Logbook
    from vaebench.running.benchmark import read_benchmark

    benchmark, logbook = read_benchmark(arguments.file), Logbook(arguments.logger, arguments.work)
    from vaebench.running.bench import bench  # with torch: a mistake in the file is answered at once
    from vaebench.running.until import UntilDecided
    from vaebench.running.workers import bench_by_workers

    if arguments.workers != 1 and arguments.engine == "population":
        raise UserError(
            "--workers and --engine population are two ways to train several runs at once: give one of them"
        )

    def run_all(benchmark: Benchmark) -> Iterator[Ended]:
        if arguments.workers != 1:
            return bench_by_workers(benchmark, arguments.results, arguments.work, arguments.workers, arguments.logger)
        return bench(benchmark, arguments.results, arguments.work, engine=arguments.engine, logbook=logbook)

    until = None
    if arguments.until_decided:
        until = UntilDecided(benchmark, run_all, arguments.most_seeds, arguments.core_minutes)
    runs = run_all(benchmark) if until is None else until
    failed, every = [], []
    for ended in runs:
        every.append(ended)
        who = f"{ended.training.variant} seed {ended.training.seed}"
        print(f"{who}: {ended.place}{' (finished before)' if ended.before else ''}", flush=True)
        if ended.reason:
            failed.append(f"{who} has no record: {ended.reason}")
    if arguments.calibrate:
        _calibrate(every)
    from vaebench.leaderboard import leaderboard as board

    if any(arguments.results.rglob("record.json")):
        print(f"\n{board(arguments.results)}")
    for sentence in () if until is None else until.verdicts():
        print(sentence)
    for sentence in failed:
        print(f"vaebench: {sentence}", file=sys.stderr)
    return 1 if failed else 0


def _calibrate(every: Iterable[Ended]) -> None:
    """Times a step of every variant and prints what it costs."""
    from vaebench.running.calibration import calibrate

    for variant, found, reason in calibrate(every):
        if found is None:
            print(f"vaebench: {variant} is not calibrated: {reason}", file=sys.stderr)
        else:
            interval = f"{found.low:.2f} to {found.high:.2f}"
            print(f"{variant}: a step costs {found.ratio:.2f} of the plain VAE's ({interval})", flush=True)
