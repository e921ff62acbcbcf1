"""Heartbeats of trials: other workers take over the trials of one whose heartbeats stop."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread

from optuna import Trial
from optuna.storages import RDBStorage


class Heartbeat:
    """Heartbeats of some trials, with the progress of each, until the block ends; they survive outages.

    Args:
        storage: of the study.
        trials: run by this process.
    """

    def __init__(self, storage: RDBStorage, *trials: Trial) -> None:
        self.storage, self.trials = storage, trials
        self.progress: dict[int, tuple[float, float | None]] = {}  # by trial number: fraction done, bound
        self._stop = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def report(self, trial: Trial, done: float, bound: float | None) -> None:
        """Notes a trial's progress; the first report is stored at once, later ones with heartbeats.

        Args:
            trial: one of these.
            done: fraction of its training.
            bound: latest held-out bound.
        """
        begins = trial.number not in self.progress
        self.progress[trial.number] = done, bound
        if begins:
            self._note(trial)

    def _note(self, trial: Trial) -> None:
        with suppress(Exception):  # the storage may be unreachable, or another process have ended the trial
            self.storage.record_heartbeat(trial._trial_id)
            if trial.number in self.progress:
                self.storage.set_trial_user_attr(trial._trial_id, "progress", self.progress[trial.number])

    def _beat(self) -> None:
        while not self._stop.wait(self.storage.heartbeat_interval):
            for trial in self.trials:
                self._note(trial)
