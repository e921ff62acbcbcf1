"""Sweeps from Python, apart from `vaebench.interface.commands`, which needs no Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vaebench.sweep.driver import run_sweep


def sweep(file: str | Path, results: str | Path = "results", work: str | Path = "runs", **options: Any) -> Path:
    """Runs a sweep to its end, as `vaebench sweep` does.

    Args:
        file: the sweep's YAML file, or the name of one of the suite's ('beta').
        results, work: as for `vb.bench`.
        options: storage, workers, resume, engine and logger, as those of the command.

    Returns:
        The page of its report; the records of its trials are in `results`.

    Raises:
        UserError: the file is not valid, or no trial ended.
    """
    return run_sweep(Path(file), Path(results), Path(work), **options)
