"""A sweep on the terminal: a live table, or without a terminal one line for each finished trial."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vaebench.curves import BOUND
from vaebench.display.terminal import standard_console, wide
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.queue import count_states

ROWS = 12  # of the live table
STATES = {"COMPLETE": "done", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting", "FAIL": "failed",
          "RETRIED": "retried"}  # fmt: skip


class LiveTable:
    """A live table of a sweep's trials, a context manager.

    Args:
        sweep, study: the sweep.
        console: for the table; None is the terminal.
    """

    def __init__(self, sweep: Sweep, study: Study, console: Console | None = None) -> None:
        self.sweep, self.study = sweep, study
        self.console = console or standard_console()
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._printed = {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, trials: Sequence[FrozenTrial]) -> None:
        """Draws the current trials."""
        if self.console.is_terminal:
            recent = sorted(trials, key=_interest, reverse=True)[:ROWS]
            self._live.update(Group(_table(self.sweep, recent), _summary(self.sweep, self.study, trials)), refresh=True)
            return
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._printed:
                self._printed.add(trial.number)
                parts = (
                    f"trial {trial.number}",
                    trial_settings(trial),
                    trial_figures(self.sweep, trial),
                    trial_state(trial),
                )
                self.console.print("  ".join(parts), highlight=False, soft_wrap=True)


def overview(sweep: Sweep, study: Study, trials: Sequence[FrozenTrial], console: Console | None = None) -> None:
    """Prints every trial and the summary."""
    console = wide(console)
    console.print(_table(sweep, trials))
    console.print(_summary(sweep, study, trials), highlight=False)


def verdict(sweep: Sweep, study: Study, trials: Sequence[FrozenTrial]) -> str:
    """Summary of a finished sweep: the number of settings tried, and the best."""
    return str(_summary(sweep, study, trials))


def trial_settings(trial: FrozenTrial) -> str:
    """A trial's settings, such as 'beta=0.53 schedule=Linear'."""
    return " ".join(f"{key.rpartition('.')[2]}={short(value)}" for key, value in trial.params.items())


def trial_figures(sweep: Sweep, trial: FrozenTrial) -> str:
    """The trial's objectives, or its last reported bound, and the constraints that it violates."""
    if trial.state == TrialState.COMPLETE and trial.values:
        values = " ".join(f"{name}={short(v)}" for name, v in zip(sweep.objectives, trial.values, strict=True))
        broken = [name for name, violation in trial.constraints.items() if violation > 0]
        return f"{values} (not {', '.join(broken)})" if broken else values
    _, bound = trial.user_attrs.get("progress", (0, None))
    if trial.intermediate_values:
        bound = trial.intermediate_values[max(trial.intermediate_values)]
    return "" if bound is None else f"{BOUND}={short(bound)}"


def trial_state(trial: FrozenTrial) -> str:
    """The trial's state as text."""
    if trial.state == TrialState.FAIL and "error" in trial.user_attrs:
        return f"failed: {trial.user_attrs['error']}"
    if trial.state == TrialState.FAIL:
        return "interrupted" if "interrupted" in trial.user_attrs else "lost its worker"
    retry = trial.user_attrs.get("retry_of")
    return STATES[trial.state.name] + ("" if retry is None else f" (again, after {retry})")


def _interest(trial: FrozenTrial) -> tuple[bool, datetime]:
    return trial.state == TrialState.RUNNING, trial.datetime_complete or trial.datetime_start or datetime.min


def _table(sweep: Sweep, trials: Sequence[FrozenTrial]) -> Table:
    table = Table("trial", "settings", "figures", "state", "time", "left", title=sweep.name)
    for trial in trials:
        start, end = trial.datetime_start, trial.datetime_complete or datetime.now()
        spent = None if start is None else end - start
        left = _left(trial, spent) if trial.state == TrialState.RUNNING and spent else ""
        what = trial_settings(trial), trial_figures(sweep, trial), trial_state(trial)
        table.add_row(str(trial.number), *what, _clock(spent), left)
    return table


def _summary(sweep: Sweep, study: Study, trials: Sequence[FrozenTrial]) -> Text:
    counts = count_states(trials)
    parts = [f"{counts[name]} {word}" for name, word in STATES.items() if counts[name]]
    tried, limit = sum("retry_of" not in trial.user_attrs for trial in trials), sweep.stop.get("trials")
    lines = [f"{tried}{f' of {limit}' if limit else ''} settings tried: {', '.join(parts) or 'none yet'}"]
    if counts["COMPLETE"]:
        best = study.best_trials
        what = "best" if len(sweep.objectives) == 1 else f"Pareto front of {len(best)}"
        lines += [f"{what}: trial {t.number}, {trial_settings(t)}, {trial_figures(sweep, t)}" for t in best[:5]]
        if not best:
            lines.append(f"no trial fulfils {', '.join(map(str, sweep.constraints))}")
    if left := _total(sweep, trials):
        lines.append(f"about {left} left")
    return Text("\n".join(lines))


def _left(trial: FrozenTrial, spent: timedelta) -> str:
    fraction, _ = trial.user_attrs.get("progress", (0.0, None))
    return _clock(spent * (1 / fraction - 1)) if fraction > 0 else ""


def _total(sweep: Sweep, trials: Sequence[FrozenTrial]) -> str:
    """Estimated time until the last trial, at the pace of the finished ones and the current parallelism."""
    times = [t.datetime_complete - t.datetime_start for t in trials if t.datetime_complete and t.datetime_start]
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    fresh = sweep.stop.get("trials", 0) - sum("retry_of" not in trial.user_attrs for trial in trials)
    if not times or not running:
        return ""
    return _clock(sum(times, timedelta()) / len(times) * (max(fresh, 0) + waiting + running / 2) / running)


def _clock(time: timedelta | None) -> str:
    return "" if time is None else str(timedelta(seconds=max(0, round(time.total_seconds()))))


def short(value: object) -> str:
    """A setting or a metric in four digits, from 100 on in two decimals."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 100 else f"{value:.2f}"
