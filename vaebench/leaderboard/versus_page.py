"""A comparison as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaebench.files.templates import templates
from vaebench.leaderboard.boards import Row
from vaebench.leaderboard.display import score_display
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.noise import of_mean
from vaebench.leaderboard.pareto import plane, rate_distortion_front
from vaebench.leaderboard.versus import Side, Versus
from vaebench.leaderboard.versus_text import plain, sentences

COLOURS = ("#3b7dd8", "#d9822b")
OTHERS = "#8a8a8a"
BINS = 80


class Drawing(NamedTuple):
    """A plotly.js figure in plain JSON: a title, traces, and a layout with `xaxis` and `yaxis`."""

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def drawings(one: Versus) -> list[Drawing]:
    """The differences of all images where there are any, the seeds' means with intervals, and the plane."""
    return [*([_differences(one)] if one.by_image else []), _means(one), _plane(one)]


def versus_page(comparisons: Sequence[Versus]) -> str:
    """The page of a comparison as text; equal records give identical pages."""
    from plotly.offline import get_plotlyjs

    environment = templates(Path(__file__).parent)
    views: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    for index, one in enumerate(comparisons):
        drawn = {f"drawing-{index}-{place}": drawing for place, drawing in enumerate(drawings(one))}
        figures |= {name: {"data": drawing.data, "layout": drawing.layout} for name, drawing in drawn.items()}
        views.append(
            {
                "title": title(one.board),
                "sentences": list(sentences(one)),
                "drawings": [{"id": name, "title": drawing.title} for name, drawing in drawn.items()],
                "text": plain([one]),
            }
        )
    return environment.get_template("versus.html").render(
        names=f"{comparisons[0].first.name} against {comparisons[0].second.name}",
        comparisons=views,
        drawings=json.dumps(figures, allow_nan=False).replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
    )


def _differences(one: Versus) -> Drawing:
    """A histogram of the paired differences, with their mean and its interval."""
    heading, unit, _ = score_display(one.board)
    counts, edges = np.histogram(one.differences, BINS)
    half = one.result.interval[1] - one.result.difference
    bars = {
        "type": "bar",
        "x": ((edges[1:] + edges[:-1]) / 2).tolist(),
        "y": counts.tolist(),
        "width": np.diff(edges).tolist(),
        "marker": {"color": COLOURS[0]},
        "name": "images",
    }
    mean = {
        "type": "scatter",
        "mode": "markers",
        "x": [one.result.difference],
        "y": [0],
        "error_x": {"type": "data", "array": [half], "thickness": 4},
        "marker": {"color": COLOURS[1], "size": 12},
        "name": "mean and its 95 % interval",
    }
    layout = {
        "xaxis": {"title": {"text": _axis(f"{one.first.name} − {one.second.name}", unit)}, "zeroline": True},
        "yaxis": {"title": {"text": "test images"}},
        "bargap": 0,
        "legend": {"orientation": "h", "y": 1.1},
    }
    return Drawing(f"Differences in {heading} image by image, averaged over seeds", [bars, mean], layout)


def _means(one: Versus) -> Drawing:
    """Each seed's mean over images, and the variant's with its interval."""
    heading, unit, _ = score_display(one.board)
    data: list[dict[str, Any]] = []
    for colour, side in zip(COLOURS, (one.first, one.second), strict=True):
        means = side.figures.mean(1, dtype=np.float64)
        half = float(of_mean(side.figures).half_width())
        hover = [f"seed {seed}" for seed in side.seeds]
        mark = {"color": colour, "size": 9, "symbol": "circle-open"}
        data.append(_points([side.name] * len(means), means.tolist(), hover, mark, f"{side.name}: seeds"))
        mark = {"color": colour, "size": 12, "symbol": "diamond"}
        mean = _points([side.name], [float(means.mean())], [""], mark, f"{side.name}: mean, 95 % interval")
        data.append({**mean, "error_y": {"type": "data", "array": [half]}})
    layout = {
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": _axis(heading, unit)}},
        "legend": {"orientation": "h", "y": 1.15},
    }
    return Drawing(
        f"Mean {heading} of each seed and of all (an interval of one seed covers images alone)", data, layout
    )


def _plane(one: Versus) -> Drawing:
    """Rate and distortion of both, run by run, with the other variants of the board."""
    on_front = rate_distortion_front(one.board)
    others = [row for row in one.board.rows if row not in (one.first.row, one.second.row)]
    data = [_rows([row for row in others if row.variant in on_front], "others on the front", "star")]
    data.append(_rows([row for row in others if row.variant not in on_front], "others", "circle"))
    data += [_runs(side, colour) for side, colour in zip((one.first, one.second), COLOURS, strict=True)]
    layout = {
        "xaxis": {"title": {"text": "rate (nats)"}},
        "yaxis": {"title": {"text": "distortion (nats)"}},
        "legend": {"orientation": "h", "y": 1.1},
    }
    return Drawing("Rate and distortion: lower left is better", [trace for trace in data if trace["x"]], layout)


def _rows(rows: Sequence[Row], name: str, symbol: str) -> dict[str, Any]:
    placed = [(row.variant, point) for row in rows if (point := plane(row)) is not None]
    mark = {"color": OTHERS, "size": 8, "symbol": symbol}
    x, y = ([point[axis] for _, point in placed] for axis in (0, 1))
    return _points(x, y, [variant for variant, _ in placed], mark, name)


def _runs(side: Side, colour: str) -> dict[str, Any]:
    points = [(r.value("rate"), r.value("distortion"), f"{side.name}, seed {r.seed}") for r in side.records]
    placed = [run for run in points if run[0] is not None and run[1] is not None]
    x, y = ([run[axis] for run in placed] for axis in (0, 1))
    return _points(x, y, [run[2] for run in placed], {"color": colour, "size": 12}, side.name)


def _points(x: list[Any], y: list[Any], hover: list[str], marker: dict[str, Any], name: str) -> dict[str, Any]:
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "text": hover, "marker": marker, "name": name}


def _axis(text: str, unit: str) -> str:
    return f"{text} ({unit})" if unit else text
