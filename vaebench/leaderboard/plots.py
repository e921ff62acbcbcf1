"""Boards and comparisons as figures of plotly's, for notebooks."""

from __future__ import annotations

from typing import Any

from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.display import score_display
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.forest import forest
from vaebench.leaderboard.versus import Versus
from vaebench.leaderboard.versus_page import drawings


def of_board(board: Board) -> Any:
    """Every variant's difference from the leader with its 95 % interval, as a `plotly.graph_objects.Figure`.

    The interval is over seeds and images, and over images alone where a variant has one seed.
    """
    from plotly.graph_objects import Figure

    marks, (heading, unit, _) = forest(board).marks, score_display(board)
    widths = [mark.over_images if mark.over_both is None else mark.over_both for mark in marks]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [mark.difference for mark in marks],
        "y": [mark.row.variant for mark in marks],
        "error_x": {"type": "data", "array": widths},
        "text": [mark.text for mark in marks],
    }
    layout = {
        "title": {"text": title(board)},
        "xaxis": {"title": {"text": f"{heading}: difference from the leader{f' ({unit})' if unit else ''}"}},
        "yaxis": {"type": "category", "autorange": "reversed"},
    }
    return Figure(data=[points], layout=layout)


def of_comparison(one: Versus) -> list[Any]:
    """Differences image by image where there are any, means of seeds, and rate against distortion; as `of_board`."""
    from plotly.graph_objects import Figure

    return [Figure(data=d.data, layout={**d.layout, "title": {"text": d.title}}) for d in drawings(one)]
