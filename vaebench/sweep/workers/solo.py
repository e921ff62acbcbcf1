"""A worker whose trials are solo trainings: `python -m vaebench.sweep.workers.solo FILE`, as engines start it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vaebench.loggers import Logbook
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.workers.worker import run_worker


def main(argv: list[str] | None = None) -> int:
    """`python -m vaebench.sweep.workers.solo FILE`, as engines start it; the environment names the storage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--logger")
    arguments = parser.parse_args(argv)
    from vaebench.sweep.workers.trial import Trainings

    def make(sweep: Sweep) -> Trainings:
        return Trainings(sweep, arguments.results, arguments.work, logbook=Logbook(arguments.logger, arguments.work))

    return run_worker(arguments.file, make)


if __name__ == "__main__":
    sys.exit(main())
