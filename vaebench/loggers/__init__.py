"""Loggers: Weights & Biases, TensorBoard, and CSV files, which no other module depends on.

A `Logbook` opens a `Log` for a run. The log receives the run's curves during training, and its record at the end. A log
that fails is disabled with a warning, and never ends a training. The choice of a logger is not part of a run's
identity.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from vaebench.errors import unknown
from vaebench.files import first_process
from vaebench.loggers.about import RunDescription, of_record, of_training
from vaebench.records import RunRecord

if TYPE_CHECKING:
    import numpy as np
    from lightning import Callback
    from numpy.typing import NDArray

__all__ = ["Log", "Logbook", "RunDescription", "Sink", "of_record", "of_training"]

CHOICES = {"wandb": "runs", "tensorboard": "local", "csv": "local"}  # modules of this package
Curves = Mapping[str, Mapping[str, list[float]]]


class Sink(Protocol):
    """The destination of one run's log. Any method may fail."""

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics after `step` training batches."""

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Pictures (h, w, 3) of the model after `step` training batches, by name."""

    def checkpoint(self, path: Path) -> None:
        """The run's checkpoint."""

    def record(self, record: RunRecord) -> None:
        """The run's record, with its files in `record.path`."""

    def close(self, outcome: str) -> None:
        """The end: 'finished', 'pruned', 'interrupted' or 'failed'."""


class Log:
    """One run's log. Its methods never raise; `close` may be called repeatedly.

    Args:
        sink: its destination; None: none.
        warn: receives the reason why a sink was disabled.
    """

    def __init__(self, sink: Sink | None = None, warn: Callable[[str], None] = print) -> None:
        self._sink, self._warn, self._last = sink, warn, -1.0

    @property
    def open(self) -> bool:
        """Whether it has a working destination."""
        return self._sink is not None

    @property
    def callbacks(self) -> list[Callback]:
        """Callbacks of a training that log its curves."""
        if self._sink is None:
            return []
        from vaebench.loggers.callback import LoggingCallback

        return [LoggingCallback(self)]

    def history(self, curves: Curves) -> None:
        """Logs new points of a run's curves; see `TrainingHistory.curves`."""
        points: dict[float, dict[str, float]] = {}
        for name, curve in curves.items():
            first = bisect_right(curve["step"], self._last)
            for step, value in zip(curve["step"][first:], curve["value"][first:], strict=True):
                points.setdefault(step, {})[name] = value
        for step in sorted(points):
            self._tell(partial(_point, step=int(step), values=points[step]))
            self._last = step

    def steps(self, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Tells what was measured of single steps."""
        for step, values in points:
            self._tell(partial(_point, step=step, values=values))

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Tells pictures (h, w, 3) of the model as it is after `step` batches."""
        if pictures:
            self._tell(lambda sink: sink.pictures(step, pictures))

    def checkpoint(self, path: Path) -> None:
        """Logs the checkpoint of a run without a record."""
        self._tell(lambda sink: sink.checkpoint(path))

    def record(self, record: RunRecord) -> None:
        """Logs a record, and new points of its curves."""
        self.history(record.curves)
        self._tell(lambda sink: sink.record(record))

    def close(self, outcome: str = "finished") -> None:
        """Ends the log."""
        self._tell(lambda sink: sink.close(outcome))
        self._sink = None

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.close("finished" if kind is None else "interrupted" if interrupted else "failed")

    def _tell(self, what: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            what(self._sink)
        except Exception as error:
            self._sink = None
            self._warn(f"a run is no longer logged ({_reason(error)}); it goes on, and its record will be complete")


class Logbook:
    """Opens logs of the logger chosen by `--logger`.

    Args:
        choice: 'wandb', 'wandb:ENTITY/PROJECT', 'tensorboard', 'csv', or None for no logs.
        folder: of logs on this machine.

    Attributes:
        choice: as given.

    Raises:
        UserError: there is no such logger, or it is not installed.
    """

    def __init__(self, choice: str | None = None, folder: Path = Path("runs")) -> None:
        self.choice, self.folder = choice, folder
        self._logs: dict[str, Log] = {}
        self._said: set[str] = set()
        self._open: Callable[[RunDescription], Sink] | None = None
        self._silent = not first_process()
        if choice is not None and not self._silent:  # of several processes of a training, only the first logs
            name, colon, _ = choice.partition(":")
            if name not in CHOICES or (colon and name != "wandb"):
                raise unknown("logger", choice, CHOICES, "wandb may be followed by :ENTITY/PROJECT.")
            self._open = import_module(f"{__name__}.{CHOICES[name]}").opener(choice, folder)

    def open(self, about: RunDescription) -> Log:
        """Opens the log of a run, or returns the open one; never fails."""
        if self._open is None or self._silent:
            return Log()
        log = self._logs.get(about.id)
        if log is None or not log.open:
            self._logs[about.id] = log = self._new(about)
        return log

    def _new(self, about: RunDescription) -> Log:
        assert self._open is not None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return Log(self._open(about), self._say)
        except Exception as error:
            self._say(f"runs are not logged ({_reason(error)}); they go on, and their records will be complete")
            return Log()

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            print(f"vaebench: {sentence}", file=sys.stderr, flush=True)


def _point(sink: Sink, step: int, values: Mapping[str, float]) -> None:
    sink.point(step, values)


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")
