"""A worker whose trials are solo trainings: `python -m vaebench.sweep.workers.solo FILE`, as engines start it."""

from __future__ import annotations

import sys
from pathlib import Path

from vaebench.loggers import Logbook
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.workers.trial import TrialRunner
from vaebench.sweep.workers.worker import start_worker


def main(argv: list[str] | None = None) -> int:
    """Works as `python -m vaebench.sweep.workers.solo` in an engine's process."""

    def make(sweep: Sweep, results: Path, work: Path, logbook: Logbook) -> TrialRunner:
        return TrialRunner(sweep, results, work, logbook=logbook)

    return start_worker(make, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
