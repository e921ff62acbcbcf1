"""Engines, which start and replace the workers of a sweep; one file per engine, discovered by name.

An engine's module has `SETTINGS`, the settings that a sweep file may give (`engine: {name: …, SETTING: …}`) with their
types, and `start(launch)`, which returns `Workers`; optionally `preview(launch)`, the text of `--dry-run`. Workers and
the storage decide everything else (next trial, retries, pruning, stop rules) by the functions of
`vaebench.sweep.storage.queue`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from vaebench.sweep.spec.spec import Sweep

__all__ = ["Launch", "Workers", "preview", "start"]


@dataclass(frozen=True)
class Launch:
    """The launch of a sweep by an engine.

    Attributes:
        sweep: the sweep.
        storage: address of its storage.
        results: folder of the records.
        work: folder for unfinished runs.
        workers: number of workers; None leaves it to the engine.
        accelerator: 'cpu', 'gpu' or 'auto', from the trainer.
        logger: destination of training logs; see `vaebench.loggers.Logbook`.
    """

    sweep: Sweep
    storage: str
    results: Path
    work: Path
    workers: int | None = None
    accelerator: str = "auto"
    logger: str | None = None

    def command(self, module: str) -> list[str]:
        """The command of one worker, a module of `vaebench.sweep`, for any machine that sees the same folders."""
        words = [sys.executable, "-m", f"vaebench.sweep.{module}", str(self.sweep.source.path.resolve())]
        words += [f"--results={self.results.resolve()}", f"--work={self.work.resolve()}"]
        return words if self.logger is None else [*words, f"--logger={self.logger}"]


class Workers(Protocol):
    """The driver's view of running workers.

    Attributes:
        count: number of workers at a time.
    """

    count: int

    def tend(self, wanted: bool) -> None:
        """Collects ended workers, and starts missing ones while there are trials for them (`wanted`).

        Raises:
            UserError: a worker ended for a reason that would end its replacement too.
        """

    def alive(self) -> int:
        """Number of running workers."""

    def interrupt(self) -> None:
        """Requests that all workers return their trials and end."""

    def kill(self) -> None:
        """Kills all workers."""


def preview(launch: Launch) -> str:
    """The jobs that the sweep's engine would start, as text."""
    module = import_module(f"{__name__}.{launch.sweep.engine['name']}")
    if hasattr(module, "preview"):
        return module.preview(launch)
    name = launch.sweep.engine["name"]
    return f"'{launch.sweep.source.path}' can be run; the engine {name} starts its workers here, with no job to show"


def start(launch: Launch) -> Workers:
    """The workers of the sweep's engine; `tend` starts them."""
    return import_module(f"{__name__}.{launch.sweep.engine['name']}").start(launch)
