"""A worker with solo trainings: `python -m vaebench.sweep.workers.solo FILE`, which engines start."""

from __future__ import annotations

import sys
from pathlib import Path

from vaebench.loggers import Logbook
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.workers.trial import TrialRunner
from vaebench.sweep.workers.worker import start_worker


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m vaebench.sweep.workers.solo`, which engines start."""

    def make(sweep: Sweep, results: Path, work: Path, logbook: Logbook) -> TrialRunner:
        return TrialRunner(sweep, results, work, logbook=logbook)

    return start_worker(make, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
