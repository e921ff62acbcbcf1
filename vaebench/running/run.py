"""One run: its folders, and the rule by which its record is obtained."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vaebench.errors import UserError
from vaebench.evaluation import Protocol
from vaebench.loggers import Log
from vaebench.records import CHECKPOINT, RECORD, RunRecord, failures, read_record
from vaebench.records.claims import imported
from vaebench.records.failures import Failure
from vaebench.running.recording import record_run, state_hash
from vaebench.training.models import read_checkpoint


@dataclass(frozen=True)
class Run:
    """A training with one seed, and its record under one protocol.

    A run with a record is finished. One with a checkpoint is evaluated and recorded. All others are trained first, solo
    or in a population, as the caller chooses.

    Attributes:
        identity: 16 hex digits of its configuration, seed and data; see `run_identity`.
        protocol: of the evaluation.
        directory: the record's folder.
        scratch: folder of unfinished files; removed once there is a record.
        benchmark, variant, trial: of the record; see `record_run`.
        progress: draw a bar of the evaluation.
        device, processes: of the evaluation; see `record_run`.
        reuses: whether to use a checkpoint beside a record of this run by another protocol.
        open_log: opens its log, or returns the open one.
    """

    identity: str
    protocol: Protocol
    directory: Path
    scratch: Path
    benchmark: str | None = None
    variant: str | None = None
    trial: int | None = None
    progress: bool = True
    device: str | None = None
    processes: int = 1
    reuses: bool = False
    open_log: Callable[[], Log] = Log

    def obtain(self, train: Callable[[Log], Path]) -> RunRecord:
        """The record: read if it exists, otherwise made from the checkpoint, which is trained if it does not exist.

        Args:
            train: trains in `scratch`, with the log's callbacks, and returns the checkpoint.

        Raises:
            UserError: the record is damaged, or the run cannot be evaluated.
            Exception: whatever `train` raises.
        """
        if (record := self.finished()) is None:
            with self.open_log() as log:
                record = self._recorded(self.checkpoint() or train(log))
                log.record(record)
            self._clean()
        return record

    def finished(self) -> RunRecord | None:
        """The record if it exists; also removes files left by a process that was killed after writing it.

        Raises:
            UserError: it is damaged.
        """
        if not self._has_record():
            return None
        record = read_record(self.directory)
        self._clean()
        return record

    def failure(self) -> Failure | None:
        """The sound note of an earlier failure, if there is one."""
        failure = failures.read_failure(self.note) if self.note.is_file() else None
        return failure if isinstance(failure, Failure) else None

    def checkpoint(self) -> Path | None:
        """The sound checkpoint of this run, if there is one."""
        try:
            checkpoint = trained_checkpoint(self.scratch, self.identity)
        except UserError:
            checkpoint = None
        return checkpoint or next(self._reusable(), None)

    @property
    def pending(self) -> bool:
        """Whether it must be trained."""
        return not self._has_record() and self.checkpoint() is None

    @property
    def note(self) -> Path:
        """The file of its failure."""
        return failures.failure_path(self.directory)

    def _has_record(self) -> bool:
        return (self.directory / RECORD).is_file()

    def _recorded(self, checkpoint: Path) -> RunRecord:
        try:
            return record_run(checkpoint, self.directory, self.protocol, self.benchmark, self.variant, self.progress,
                              self.device, self.processes, self.trial)  # fmt: skip
        except (UserError, OSError):
            if not self._has_record():  # otherwise another process wrote it meanwhile, such as a worker presumed dead
                raise
            return read_record(self.directory)

    def _reusable(self) -> Iterator[Path]:
        """Checkpoints of this run beside records by other protocols, whose folders differ only in the id."""
        if self.reuses:
            others = f"{glob.escape(self.directory.name.rpartition('-')[0])}-*"
            for path in sorted(self.directory.parent.glob(f"{others}/{CHECKPOINT}")):
                if not path.is_symlink() and self._is_measured(path):
                    yield path

    def _is_measured(self, checkpoint: Path) -> bool:
        """Whether a checkpoint is of this run, and that of the record beside it, measured on this machine."""
        try:
            if trained_checkpoint(checkpoint.parent, self.identity) is None:
                return False
            record = read_record(checkpoint.parent)
            weights = state_hash(read_checkpoint(checkpoint)["state_dict"])
        except UserError:
            return False
        return not imported(record) and (record.checkpoint or {}).get("weights") == weights

    def _clean(self) -> None:
        self.note.unlink(missing_ok=True)
        shutil.rmtree(self.scratch, ignore_errors=True)


def trained_checkpoint(folder: Path, identity: str) -> Path | None:
    """The finished checkpoint of a run in a folder; None where there is none, or one of another run.

    Args:
        folder: of the training; it may be of an earlier run, as a trial's folder may outlive a sweep's storage.
        identity: of the run.

    Raises:
        UserError: the checkpoint is damaged.
    """
    checkpoint = folder / CHECKPOINT
    if not checkpoint.is_file():
        return None
    info = read_checkpoint(checkpoint).get("vaebench") or {}
    return checkpoint if info.get("run") == identity else None
