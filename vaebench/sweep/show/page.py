"""The report of a sweep as one self-contained HTML page."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from optuna import Study, importance, visualization
from optuna.trial import FrozenTrial, TrialState
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from vaebench._version import __version__
from vaebench.curves import VAL
from vaebench.files import write_atomically
from vaebench.files.templates import templates
from vaebench.sweep.show.terminal import trial_figures, trial_settings, trial_state
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.queue import count_states, over

CONTOURS = 3  # the most important settings, two by two
HERE = Path(__file__).parent


def write_sweep_report(sweep: Sweep, study: Study, results: Path) -> Path:
    """Writes `results/<sweep>/report.html` from the storage, and returns its path."""
    trials = study.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = {trial.number for trial in study.best_trials} if done else set()
    end, counts = over(sweep, study, trials), count_states(trials)
    environment = templates(HERE)
    page = environment.get_template("report.html").render(
        sweep=sweep,
        version=__version__,
        counts=", ".join(f"{count} {name.lower()}" for name, count in sorted(counts.items())) or "no trial yet",
        end=end.reason if end else "not over yet",
        charts=list(_charts(sweep, study)),
        rows=[_row(sweep, trial, trial.number in best) for trial in trials],
        plotly=get_plotlyjs(),
    )
    path = results / sweep.name / "report.html"
    write_atomically(path, page.encode())
    return path


def _row(sweep: Sweep, trial: FrozenTrial, best: bool) -> dict[str, Any]:
    records = ", ".join(trial.user_attrs.get("records", []))
    return {"number": trial.number, "settings": trial_settings(trial), "figures": trial_figures(sweep, trial),
            "state": trial_state(trial), "records": records, "best": best}  # fmt: skip


def _charts(sweep: Sweep, study: Study) -> Iterator[dict[str, str]]:
    """Title, explanation and HTML of every chart, or the reason why it cannot be drawn."""
    names = [name.removeprefix(VAL) for name in sweep.objectives]
    if len(names) > 1:
        yield _chart(
            "Pareto front",
            "Trials that no other trial beats in every objective, among the others. On validation images.",
            lambda: visualization.plot_pareto_front(study, target_names=names),
        )
    for index, name in enumerate(names):
        target = _target(index) if len(names) > 1 else None
        for title, explanation, draw in PLOTS:
            yield _chart(f"{title} {name}", explanation, partial(draw, study, target=target, target_name=name))
    if len(names) == 1:
        yield _chart(
            "Held-out bound while training",
            "What pruning reads: bounds after epochs once schedules ended, nats; lines that end early were pruned.",
            lambda: visualization.plot_intermediate_values(study),
        )


def _target(index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: trial.values[index]


def _contour(study: Study, target: Callable[[FrozenTrial], float] | None, target_name: str) -> Figure:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shared = set.intersection(*(set(trial.params) for trial in done)) if done else set()
    if len(shared) < 2:
        raise ValueError("fewer than two settings vary in all trials")
    ranked = importance.get_param_importances(study, target=target, params=sorted(shared))
    return visualization.plot_contour(study, list(ranked)[:CONTOURS], target=target, target_name=target_name)


PLOTS: list[tuple[str, str, Callable[..., Figure]]] = [
    (
        "History of",
        "Each finished trial in the order in which they began, and the best so far.",
        visualization.plot_optimization_history,
    ),
    (
        "Importance for",
        "How much of the difference between good and bad trials each setting explains (PED-ANOVA); it says little "
        "after few trials.",
        visualization.plot_param_importances,
    ),
    (
        "Parallel coordinates of",
        "Each line is a trial; drag along an axis to single some out.",
        visualization.plot_parallel_coordinate,
    ),
    (
        "Contour of",
        f"Interpolated between trials, over the {CONTOURS} most important settings that all trials have.",
        _contour,
    ),
]


def _chart(title: str, explanation: str, draw: Callable[[], Figure]) -> dict[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's: too few trials for this or that, which the chart then shows
            figure = draw()
        if not figure.data:
            raise ValueError("no finished trial")
        figure.update_layout(title=None, template="plotly_white", margin={"t": 30}, font={"family": "system-ui"})
        html = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    except (ValueError, RuntimeError) as error:
        html = f"<p class=missing>Cannot be drawn: {(str(error) or type(error).__name__).rstrip('.')[:120]}.</p>"
    return {"title": title, "explanation": explanation, "html": html}
