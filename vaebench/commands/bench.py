"""`vaebench bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import logger_option

HELP = "train, evaluate and record families × seeds; goes on where it stopped"
EXAMPLE = "vaebench bench configs/benchmark/digits.yaml --results results"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the benchmark's YAML file")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder of unfinished runs (default: runs)")
    parser.add_argument("--engine", choices=["solo", "population"], default="solo",
                     help="one run after another, or all that can be trained as one model (default: solo)")  # fmt: skip
    logger_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench bench`: runs what is missing and prints the leaderboard of the folder."""
    from vaebench.bench import bench as run_all
    from vaebench.loggers import Logbook

    logbook = Logbook(arguments.logger, arguments.work)
    runs = run_all(arguments.file, arguments.results, arguments.work, engine=arguments.engine, logbook=logbook)
    for run, directory, finished in runs:
        print(f"{run.variant} seed {run.seed}: {directory}{' (finished before)' if finished else ''}", flush=True)
    from vaebench.leaderboard import leaderboard as board

    print(f"\n{board(arguments.results)}")
    return 0
