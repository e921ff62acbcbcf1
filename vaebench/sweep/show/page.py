"""The report of a sweep as an HTML page that needs no network: the best trial and its command, charts, every trial."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from plotly.offline import get_plotlyjs

from vaebench._version import __version__
from vaebench.curves import BOUND, VAL
from vaebench.errors import UserError
from vaebench.files import write_atomically
from vaebench.files.templates import templates
from vaebench.leaderboard.display import number
from vaebench.records import RunRecord, read_record
from vaebench.sweep.show.charts import charts
from vaebench.sweep.show.terminal import short, trial_settings, trial_state
from vaebench.sweep.spec.spec import Sweep
from vaebench.sweep.storage.queue import count_states, over

HERE = Path(__file__).parent
PLOTLY = "plotly.min.js"
SHOWN = 6  # trials of a Pareto front with their commands
WORDS = {"COMPLETE": "finished", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting", "FAIL": "failed",
         "RETRIED": "tried again"}  # fmt: skip


def write_sweep_report(sweep: Sweep, study: Study, results: Path) -> Path:
    """Writes `results/<sweep>/report.html` from the storage, and returns its path.

    Its charts are drawn by `results/plotly.min.js`, which all sweeps share, and which is written where it is missing.
    """
    trials = study.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = sorted(study.best_trials if done else [], key=lambda trial: _height(sweep, trial), reverse=True)
    folder = results / sweep.name
    record, units = _record(folder, [*best, *done]), dict[str, str]()
    if record is not None:
        units = {name: record.metrics[metric]["unit"] for name in [*sweep.objectives, BOUND]
                 if (metric := name.removeprefix(VAL)) in record.metrics}  # fmt: skip
    end, counts = over(sweep, study, trials), count_states(trials)
    page = templates(HERE).get_template("report.html").render(
        sweep=sweep,
        version=__version__,
        tried=sum("retry_of" not in trial.user_attrs for trial in trials),
        counts=[f"{counts[name]} {word}" for name, word in WORDS.items() if counts[name]],
        end=end.reason if end else "",
        images=_images(sweep, record),
        heads=[(name.removeprefix(VAL), units.get(name, "")) for name in sweep.objectives],
        settings=[key.removeprefix("model.") for key in _keys(trials)],
        best=[_shown(sweep, trial, folder, units) for trial in best[:SHOWN]],
        front=len(best),
        gap=_gap(sweep, done, best, units),
        rows=[_row(sweep, trial, trials, best, folder) for trial in sorted(trials, key=_place(sweep), reverse=True)],
        charts=(drawn := charts(sweep, study, trials, best, units)),
        data={chart.id: chart._asdict() for chart in drawn},
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        plotly=f"../{PLOTLY}",
    )  # fmt: skip
    drawing = get_plotlyjs().encode()
    if not (results / PLOTLY).exists() or (results / PLOTLY).read_bytes() != drawing:
        write_atomically(results / PLOTLY, drawing)
    path = folder / "report.html"
    write_atomically(path, page.encode())
    return path


def _keys(trials: list[FrozenTrial]) -> list[str]:
    """All settings that vary, in the order in which trials have them."""
    return list(dict.fromkeys(key for trial in trials for key in trial.params))


def _height(sweep: Sweep, trial: FrozenTrial) -> float:
    """The first objective of a finished trial, the higher the better."""
    return trial.values[0] * (1 if next(iter(sweep.objectives.values())) == "maximise" else -1)


def _place(sweep: Sweep) -> Any:
    """Key of the order of the table: finished trials by their first objective, those that keep the constraints first;
    then pruned ones by their last bound, then the others.
    """

    def key(trial: FrozenTrial) -> tuple[int, int, float, int]:
        if trial.state == TrialState.COMPLETE:
            return 2, -len(_broken(trial)), _height(sweep, trial), -trial.number
        last = max(trial.intermediate_values, default=0)
        bound = trial.intermediate_values.get(last, 0.0)
        return int(trial.state == TrialState.PRUNED), last, bound, -trial.number

    return key


def _broken(trial: FrozenTrial) -> list[str]:
    return [name for name, violation in trial.constraints.items() if violation > 0]


def _record(folder: Path, trials: list[FrozenTrial]) -> RunRecord | None:
    """A record of the first of the trials that has one at hand."""
    for path in (folder / name for trial in trials for name in trial.user_attrs.get("records", [])):
        try:
            return read_record(path)
        except (UserError, OSError):
            continue
    return None


def _images(sweep: Sweep, record: RunRecord | None) -> str:
    """The images that the objectives are means of."""
    if record is None or not (size := record.data.get("sizes", {}).get("val")):
        return "the validation images"
    limited = set(sweep.objectives) != {BOUND} and record.protocol["n"] < record.data["sizes"]["test"]
    return f"{min(size, record.protocol['n']) if limited else size:,} validation images"


def _figure(value: float) -> str:
    return number(value, 2 if abs(value) < 1000 else 0)


def _values(sweep: Sweep, trial: FrozenTrial, units: dict[str, str]) -> list[str]:
    """Names, values and units of the objectives."""
    return [f"{name.removeprefix(VAL)} {_figure(value)} {units.get(name, '')}".strip()
            for name, value in zip(sweep.objectives, trial.values, strict=True)]  # fmt: skip


def _shown(sweep: Sweep, trial: FrozenTrial, folder: Path, units: dict[str, str]) -> dict[str, Any]:
    """A trial with its command, whose files are named from the current folder, or by name where they lie elsewhere."""
    here = Path.cwd()
    words = [
        f"--config={path.relative_to(here) if path.is_relative_to(here) else path.name}"
        if word.startswith("--config=") and (path := Path(word.removeprefix("--config=")).resolve())
        else word
        for word in sweep.arguments(trial.params, sweep.seeds[0])
    ]
    return {
        "number": trial.number,
        "settings": trial_settings(trial),
        "figures": _values(sweep, trial, units),
        "command": " \\\n  ".join(["vaebench fit", *map(shlex.quote, words)]),
        "seeds": sweep.seeds[1:],
        "records": _links(trial, folder),
    }


def _links(trial: FrozenTrial, folder: Path) -> list[tuple[str, str]]:
    """Names and addresses of a trial's records, seen from the page."""
    names = trial.user_attrs.get("records", [])
    return [(name, f"{name}/record.json" if (folder / name / "record.json").is_file() else "") for name in names]


def _gap(sweep: Sweep, done: list[FrozenTrial], best: list[FrozenTrial], units: dict[str, str]) -> str:
    """How far behind the best the next trial is; '' where several objectives or a single trial leave none."""
    rest = sorted((t for t in done if t not in best and not _broken(t)), key=lambda t: _height(sweep, t), reverse=True)
    if len(sweep.objectives) > 1 or not best or not rest:
        return ""
    unit = units.get(next(iter(sweep.objectives)), "")
    behind = _figure(_height(sweep, best[0]) - _height(sweep, rest[0]))
    return f"Next comes trial {rest[0].number} ({trial_settings(rest[0])}), {behind} {unit}".rstrip() + " behind."


def _row(
    sweep: Sweep, trial: FrozenTrial, trials: list[FrozenTrial], best: list[FrozenTrial], folder: Path
) -> dict[str, Any]:
    done, start = trial.state == TrialState.COMPLETE, trial.datetime_start
    spent = trial.datetime_complete - start if trial.datetime_complete and start else None
    bounds = trial.intermediate_values
    state = re.sub(r"^failed: \w+: ", "failed: ", trial_state(trial))  # without the name of an exception
    if trial.state == TrialState.PRUNED and bounds:
        state += f" after epoch {max(bounds)} at a bound of {_figure(bounds[max(bounds)])}"
    if broken := _broken(trial):
        state += f", but not {', '.join(broken)}"
    return {
        "number": trial.number,
        "best": trial in best,
        "figures": [_figure(value) for value in trial.values] if done else [""] * len(sweep.objectives),
        "settings": [short(trial.params[key]) if key in trial.params else "" for key in _keys(trials)],
        "state": state,
        "time": "" if spent is None else str(timedelta(seconds=round(spent.total_seconds()))),
        "records": _links(trial, folder),
    }
