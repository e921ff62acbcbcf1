"""Engines: what keeps workers at a sweep's trials. One file an engine, found by its name.

An engine's module holds `SETTINGS`, what a sweep file may set (`engine: {name: …, SETTING: …}`) with its type, and
`start(launch)`, which returns `Workers`; perhaps `preview(launch)`, the text that `--dry-run` shows. Everything else
(which trial is next, retries, pruning, stop rules) is decided between each worker and the storage, by the functions of
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
    """A sweep as an engine starts it.

    Attributes:
        sweep: the sweep.
        storage: address of its storage.
        results: folder of the records.
        work: folder for what is unfinished.
        workers: number of workers; None leaves it to the engine.
        accelerator: 'cpu', 'gpu' or 'auto', as the trainer has it.
        logger: where the trainings are logged; see `vaebench.loggers.Logbook`.
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
    """Workers somewhere, as the driver sees them."""

    def tend(self, wanted: bool) -> None:
        """Looks after the workers; starts those that are missing where there are trials for them (`wanted`).

        Raises:
            UserError: a worker could not go on for a reason that another one would meet too.
        """

    def alive(self) -> int:
        """Number of workers at work."""

    def interrupt(self) -> None:
        """Asks all workers to give back their trials and end."""

    def kill(self) -> None:
        """Ends all workers at once."""


def preview(launch: Launch) -> str:
    """The jobs that the sweep's engine would start, in words."""
    module = import_module(f"{__name__}.{launch.sweep.engine['name']}")
    if hasattr(module, "preview"):
        return module.preview(launch)
    name = launch.sweep.engine["name"]
    return f"'{launch.sweep.source.path}' can be run; the engine {name} starts its workers here, with no job to show"


def start(launch: Launch) -> Workers:
    """The workers of the sweep's engine; `tend` starts them."""
    return import_module(f"{__name__}.{launch.sweep.engine['name']}").start(launch)
