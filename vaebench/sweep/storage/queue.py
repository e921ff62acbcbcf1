"""The queue of trials that workers share: one worker takes a trial and sends heartbeats while it runs.

A trial that was interrupted or whose worker died ends as failed and is retried with the same settings. A death counts
against a trial that was alone in its worker and made no progress; after a death of several trials, fewer train
together, until the cause is alone. `mend` does so from the storage alone, under a lock that its process's end releases,
so that a kill at any moment is safe.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import optuna
from optuna import Study, Trial
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import DateTime, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from vaebench.sweep.spec.methods import SAMPLERS
from vaebench.sweep.spec.space import Point
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.heartbeat import Heartbeat
from vaebench.sweep.storage.lock import study_lock
from vaebench.sweep.storage.sound import AwayError
from vaebench.sweep.storage.study import pruner, sampler

T = TypeVar("T")

PATIENCE = 300.0  # seconds for which a storage may be unreachable
RETRIES = 3  # of one trial without progress, which may be what kills its workers
FAILURES = 5  # consecutive failed trials that end a sweep
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
BATCH = 8  # running trials for each one that is suggested at a time
AHEAD = "ahead"  # user attribute of trials that were suggested in a batch


def patiently(call: Callable[[], T]) -> T:
    """The result of `call`, retried every second while the storage is unreachable, for up to PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except (StorageInternalError, SQLAlchemyError, AwayError):
            if time.monotonic() > end:
                raise
            time.sleep(min(1.0, PATIENCE))


def mend(storage: RDBStorage, study: Study) -> list[FrozenTrial]:
    """Fails the trials of dead workers and queues their retries; call it inside `study_lock`.

    Returns:
        All trials afterwards.
    """
    _fail_silent(storage, study)
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    owed = [t for t in trials if t.state == TrialState.FAIL and "error" not in t.user_attrs and t.number not in retried]
    again = [retry for trial in owed if (retry := _retry(trial, trials)).user_attrs["kills"] <= RETRIES]
    for retry in again:
        study.add_trial(retry)
    return study.get_trials(deepcopy=False) if again else trials


def _fail_silent(storage: RDBStorage, study: Study) -> None:
    """Fails running trials without a recent heartbeat, as `optuna.storages.fail_stale_trials`, by one plain query.

    A worker may be killed between taking a trial and its first heartbeat; such a trial gets one here, to age from.
    """
    beats = text(
        "SELECT trials.trial_id, heartbeat FROM trials LEFT JOIN trial_heartbeats "
        "ON trials.trial_id = trial_heartbeats.trial_id WHERE trials.study_id = :study AND trials.state = 'RUNNING'"
    ).columns(heartbeat=DateTime)
    with storage.engine.connect() as connection:
        now = connection.execute(select(func.now())).scalar_one().replace(tzinfo=None)
        running = connection.execute(beats, {"study": study._study_id}).all()
    oldest = now - timedelta(seconds=storage.grace_period or 0)
    for trial_id, beat in running:
        if beat is None:
            storage.record_heartbeat(trial_id)
        elif beat < oldest:
            with suppress(UpdateFinishedTrialError):
                storage.set_trial_state_values(trial_id, TrialState.FAIL)


def _retry(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> FrozenTrial:
    """A waiting trial with the settings of another, and the attributes of its sampler and pruner.

    Args:
        trial: one that ended with its worker, or was interrupted.
        trials: all of the study.
    """
    noted = trial.user_attrs
    reached, kills, together = noted.get("reached", 0.0), noted.get("kills", 0), noted.get("together")
    done = noted.get("progress", (0.0, None))[0]
    if "interrupted" not in noted:
        died = _died_together(trial, trials)
        if done > reached:
            together = None
        elif died > 1:
            together = died // 2
        else:
            kills += 1
    notes = {key: value for key, value in trial.system_attrs.items() if not key.startswith("constraints")}
    own = {"retry_of": trial.number, "first": first(trial), "kills": kills, "reached": max(done, reached)}
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=own if together is None else {**own, "together": together},
        system_attrs=notes,
        intermediate_values=trial.intermediate_values,
    )


def _died_together(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """Number of known trials that were in this one's group when it ended."""
    if (company := trial.user_attrs.get("company")) is None:
        return 1
    ended = (TrialState.FAIL, TrialState.RUNNING)
    return sum(t.user_attrs.get("company") == company and t.state in ended
               and not {"error", "interrupted"} & t.user_attrs.keys() for t in trials)  # fmt: skip


def first(trial: FrozenTrial | Trial) -> int:
    """Number of the trial that this one retries, or its own."""
    return trial.user_attrs.get("first", trial.number)


class End(NamedTuple):
    """Why no new settings are tried, and whether waiting trials (grid points, retries) still run."""

    reason: str
    queue: bool


def over(sweep: Sweep, study: Study, trials: Sequence[FrozenTrial]) -> End | None:
    """The end of a sweep; None while it runs."""
    ended = sorted((t for t in trials if t.state.is_finished()), key=lambda t: t.datetime_complete or datetime.max)
    errors = [t.user_attrs.get("error") for t in ended[study.user_attrs.get("launched", 0) :][-FAILURES:]]
    if len(errors) == FAILURES and all(errors):
        return End(f"the last {FAILURES} trials failed ({errors[-1]})", False)
    if sweep.sampler["name"] == "grid":
        return End("every point of the grid was tried", True)
    if (limit := sweep.stop.get("trials")) and sum("retry_of" not in t.user_attrs for t in trials) >= limit:
        return End(f"{limit} settings were tried", True)
    if limit := sweep.stop.get("stalled"):
        done = [t.number for t in ended if t.state in FINISHED]
        best = study.best_trials if any(t.state == TrialState.COMPLETE for t in trials) else []
        latest = max((done.index(t.number) for t in best if t.number in done), default=-1)
        if len(done) - latest > limit:
            return End(f"{limit} trials brought nothing better", True)
    return None


def to_do(sweep: Sweep, study: Study, trials: Sequence[FrozenTrial]) -> bool:
    """Whether there is a trial to take."""
    end = over(sweep, study, trials)
    return end is None or (end.queue and any(t.state == TrialState.WAITING for t in trials))


def largest_group(trial: FrozenTrial | Trial) -> float:
    """Number of trials that may train together with this one, itself included: fewer where such a group died."""
    return trial.user_attrs.get("together", math.inf)


class TrialGroup(NamedTuple):
    """Trials that train together, and so fail together with their process or model.

    Attributes:
        name: unique name.
        size: number of trials.
    """

    name: str
    size: int


def take(
    sweep: Sweep, storage: RDBStorage, study: Study, group: TrialGroup | None = None
) -> tuple[Trial, Point] | None:
    """Takes the next trial with its settings, and stores them; None where no trial is left.

    Args:
        sweep, storage, study: of the trials.
        group: the group to join, which may be too large for the next trial; None trains it alone.
    """

    def turn() -> tuple[Trial, Point] | None:
        with study_lock(storage, study):
            trial = _suggested(storage, study)
            if trial is None:
                trials = mend(storage, study)
                if not to_do(sweep, study, trials):
                    return None
                waiting = next((t for t in trials if t.state == TrialState.WAITING), None)  # Optuna takes it first
                if waiting and group and group.size and largest_group(waiting) <= group.size:
                    return None
                if waiting is None and (count := _batch(sweep, trials)) > 1:
                    study.add_trials(_suggest(sweep, study, trials, count))
                study.sampler = sampler(sweep, _turn(trials))
                trial = _suggested(storage, study) or study.ask()
            storage.record_heartbeat(trial._trial_id)
            if group:
                trial.set_user_attr("company", group.name)
            return trial, sweep.space.suggest(trial)

    return patiently(turn)


def _turn(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state != TrialState.WAITING for trial in trials)


def _batch(sweep: Sweep, trials: Sequence[FrozenTrial]) -> int:
    """Number of settings to suggest at once: more where many trials run, since workers wait for one another."""
    if not SAMPLERS[sweep.sampler["name"]].batches:
        return 1
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    tried = sum("retry_of" not in trial.user_attrs for trial in trials)
    return min(running // BATCH, int(sweep.stop.get("trials", math.inf) - tried) if "trials" in sweep.stop else running)


def _suggest(sweep: Sweep, study: Study, trials: Sequence[FrozenTrial], count: int) -> list[FrozenTrial]:
    """Waiting trials whose settings are suggested from the same results, each in view of those before it.

    In memory: with 256 running trials a suggestion reads them from the storage four times, a batch once.
    """
    memory = optuna.create_study(study_name=study.study_name, directions=study.directions, pruner=pruner(sweep))
    memory.add_trials(trials)
    for index in range(count):
        memory.sampler = sampler(sweep, _turn(trials) + index)
        sweep.space.suggest(memory.ask())
    return [
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs=trial.system_attrs,
            user_attrs={AHEAD: True},
        )
        for trial in memory.get_trials(deepcopy=False)[len(trials) :]
    ]


def _suggested(storage: RDBStorage, study: Study) -> Trial | None:
    """The first waiting trial of a batch, which starts to run; None where there is none."""
    first_ahead = text(
        "SELECT trials.trial_id FROM trials JOIN trial_user_attributes ON trials.trial_id = "
        "trial_user_attributes.trial_id WHERE trials.study_id = :study AND trials.state = 'WAITING' "
        "AND trial_user_attributes.key = :key ORDER BY trials.number LIMIT 1"
    )
    with storage.engine.connect() as connection:
        found = connection.execute(first_ahead, {"study": study._study_id, "key": AHEAD}).scalar()
    if found is None or not storage.set_trial_state_values(found, TrialState.RUNNING):
        return None
    return Trial(study, found)


def tell(
    study: Study, trial: Trial, values: Sequence[float] | None = None, state: TrialState | None = None, **notes: Any
) -> bool:
    """Ends a trial, with notes as user attributes; False where another process has already ended it."""

    wanted = state or TrialState.COMPLETE

    def end() -> bool:
        try:
            for name, note in notes.items():
                trial.set_user_attr(name, note)
            study.tell(trial, values, wanted, skip_if_finished=True)
        except UpdateFinishedTrialError:  # just now, between Optuna's look and its write
            pass
        ended = study._storage.get_trial(trial._trial_id)
        return ended.state == wanted and (values is None or ended.values == list(values))

    return patiently(end)


def count_states(trials: Sequence[FrozenTrial]) -> Counter[str]:
    """Number of trials by state: COMPLETE, PRUNED, RUNNING, WAITING, FAIL, and RETRIED of those that failed."""
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    return Counter("RETRIED" if trial.number in retried else trial.state.name for trial in trials)


class Outcome(NamedTuple):
    """The result of a finished trial.

    Attributes:
        values: of the objectives.
        constraints: violations by name, 0 or less where they hold.
        figures: metrics of the validation images.
        records: names of folders.
    """

    values: list[float]
    constraints: dict[str, float]
    figures: dict[str, Any]
    records: list[str]


Objective = Callable[[Trial, Point, Heartbeat], Outcome]  # of a study, in Optuna's sense
