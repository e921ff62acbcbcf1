"""The charts of a sweep's report, as data for Plotly; colours come from the page."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from optuna import Study, importance
from optuna.trial import FrozenTrial, TrialState

from vaebench.curves import BOUND, VAL
from vaebench.sweep.spec.spec import Sweep

ENOUGH = 4  # finished trials for a chart of importance


class Chart(NamedTuple):
    """One chart.

    Attributes:
        id: of its element.
        title, caption: words above and below it.
        traces: Plotly's; a colour is the name of one in page.css.
        x, y: titles of the axes.
        log: whether x is on a logarithmic scale.
    """

    id: str
    title: str
    caption: str
    traces: list[dict[str, Any]]
    x: str
    y: str
    log: bool = False


def charts(
    sweep: Sweep, study: Study, trials: list[FrozenTrial], best: list[FrozenTrial], units: dict[str, str]
) -> list[Chart]:
    """All charts that the trials allow.

    Args:
        sweep, study: the sweep.
        trials: all of them.
        best: the best one, or the Pareto front.
        units: of the objectives and the bound, where they are known.
    """
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    drawn = [
        *_front(sweep, done, best, units),
        *_slices(sweep, done, best, units),
        *_importance(sweep, study, done),
        *_history(sweep, done, best, units),
        *_curves(trials, best, units),
    ]
    return [chart._replace(id=f"chart-{index}") for index, chart in enumerate(drawn)]


def _title(name: str, units: dict[str, str]) -> str:
    unit = units.get(name, "")
    return name.removeprefix(VAL) + (f", {unit}" if unit else "")


def _points(trials: list[FrozenTrial], best: list[FrozenTrial], x: list[Any], y: list[float]) -> dict[str, Any]:
    """Markers, those of the best filled in another colour."""
    leads = [trial in best for trial in trials]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "text": [f"trial {trial.number}" for trial in trials],
        "marker": {
            "color": ["c1" if lead else "c0" for lead in leads],
            "size": [12 if lead else 8 for lead in leads],
            "symbol": ["diamond" if lead else "circle" for lead in leads],
        },
        "hovertemplate": "%{text}<br>%{x}<br>%{y:.2f}<extra></extra>",
    }


def _front(sweep: Sweep, done: list[FrozenTrial], best: list[FrozenTrial], units: dict[str, str]) -> Iterator[Chart]:
    names = list(sweep.objectives)
    if len(names) != 2 or not done:
        return
    x, y = ([trial.values[axis] for trial in done] for axis in (0, 1))
    yield Chart(
        "",
        "Pareto front",
        "Every finished trial; diamonds are those that no other beats in both objectives.",
        [_points(done, best, x, y)],
        _title(names[0], units),
        _title(names[1], units),
    )


def _slices(sweep: Sweep, done: list[FrozenTrial], best: list[FrozenTrial], units: dict[str, str]) -> Iterator[Chart]:
    """A single objective against each setting."""
    if len(sweep.objectives) > 1:
        return
    (name,) = sweep.objectives
    for parameter in sweep.space.parameters:
        if not (having := [trial for trial in done if parameter.key in trial.params]):
            continue
        values = [trial.params[parameter.key] for trial in having]
        x = [str(value) for value in values] if parameter.kind == "choice" else values
        short = parameter.key.removeprefix("model.")
        yield Chart(
            "",
            f"{name.removeprefix(VAL)} against {short}",
            "Finished trials, the best as a diamond; other settings differ too.",
            [_points(having, best, x, [trial.values[0] for trial in having])],
            short,
            _title(name, units),
            parameter.log,
        )


def _importance(sweep: Sweep, study: Study, done: list[FrozenTrial]) -> Iterator[Chart]:
    shared = set.intersection(*(set(trial.params) for trial in done)) if done else set()
    if len(shared) < 2 or len(done) < ENOUGH:
        return
    for index, name in enumerate(sweep.objectives):
        target: Callable[[FrozenTrial], float] | None = None
        if len(sweep.objectives) > 1:
            target = lambda trial, index=index: trial.values[index]  # noqa: E731
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's, of few trials, which the caption says
                found = importance.get_param_importances(study, target=target, params=sorted(shared))
        except (ValueError, RuntimeError):  # such as trials that are all equal
            continue
        keys = [key.removeprefix("model.") for key in found]
        yield Chart(
            "",
            f"What {name.removeprefix(VAL)} depends on",
            "How much of the difference between good and bad trials each setting explains (PED-ANOVA); it says "
            "little after few trials.",
            [
                {
                    "type": "bar",
                    "orientation": "h",
                    "x": list(found.values())[::-1],
                    "y": keys[::-1],
                    "marker": {"color": "c0"},
                    "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
                }
            ],
            "share",
            "",
        )


def _history(sweep: Sweep, done: list[FrozenTrial], best: list[FrozenTrial], units: dict[str, str]) -> Iterator[Chart]:
    if len(sweep.objectives) > 1 or len(done) < 2:
        return
    (name, direction), ordered = next(iter(sweep.objectives.items())), sorted(done, key=lambda trial: trial.number)
    x, y = [trial.number for trial in ordered], [trial.values[0] for trial in ordered]
    leading = list(accumulate(y, max if direction == "maximise" else min))
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": leading,
        "line": {"color": "muted", "shape": "hv", "width": 1.5},
        "hoverinfo": "skip",
    }
    yield Chart(
        "",
        f"{name.removeprefix(VAL)} trial by trial",
        "Finished trials in the order in which they began; the line is the best so far.",
        [line, _points(ordered, best, x, y)],
        "trial",
        _title(name, units),
    )


def _curves(trials: list[FrozenTrial], best: list[FrozenTrial], units: dict[str, str]) -> Iterator[Chart]:
    traces = []
    for trial in sorted((t for t in trials if t.intermediate_values), key=lambda trial: trial in best):
        x, y = zip(*sorted(trial.intermediate_values.items()), strict=True)
        if not any(map(math.isfinite, y)):
            continue
        color = "c1" if trial in best else "c0" if trial.state == TrialState.COMPLETE else "muted"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": x,
                "y": y,
                "name": f"trial {trial.number}",
                "line": {"color": color, "width": 1.5},
                "marker": {"color": color, "size": 5},
                "opacity": 0.85,
                "hovertemplate": f"trial {trial.number}<br>epoch %{{x}}<br>%{{y:.2f}}<extra></extra>",
            }
        )
    if traces:
        yield Chart(
            "",
            "Held-out bound while training",
            "What a pruner reads, once schedules have ended; grey lines end where a trial was pruned or stopped.",
            traces,
            "epoch",
            _title(BOUND, units),
        )
