"""Signs of life of trials: those of a worker that gives none any more are taken by others."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread

from optuna import Trial
from optuna.storages import RDBStorage


class Heartbeat:
    """Signs of life for some trials, with how far each is, until the block ends; an outage does not stop them.

    Args:
        storage: where they go.
        trials: those that this process runs.
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
        """Notes how far a trial is: stored at once the first time, so that a death soon after knows, and then by beats.

        Args:
            trial: one of these.
            done: the part of it that is trained.
            bound: the last one.
        """
        begins = trial.number not in self.progress
        self.progress[trial.number] = done, bound
        if begins:
            self._note(trial)

    def _note(self, trial: Trial) -> None:
        with suppress(Exception):  # the storage may be away, or another process have ended the trial
            self.storage.record_heartbeat(trial._trial_id)
            if trial.number in self.progress:
                self.storage.set_trial_user_attr(trial._trial_id, "progress", self.progress[trial.number])

    def _beat(self) -> None:
        while not self._stop.wait(self.storage.heartbeat_interval):
            for trial in self.trials:
                self._note(trial)
