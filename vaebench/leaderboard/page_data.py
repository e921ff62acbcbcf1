"""What the scripts of the leaderboard page load on demand: the plots of a board, and each of its runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from vaebench.curves import BOUND
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.details import Pictures, details
from vaebench.leaderboard.display import score_display
from vaebench.leaderboard.pareto import plane, rate_distortion_front
from vaebench.leaderboard.places import Places
from vaebench.leaderboard.views import row_kind, shown_metrics
from vaebench.records import Records, RunRecord

SHOWN, COLUMNS = 40, 10  # test images in a picture of reconstructions, and in a row of it


def page_data(
    boards: Iterable[Board], records: Records, places: Places, pictures: Pictures
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Data by the id of a board or a run: plots of each board, and details of each of its runs."""
    for board in boards:
        yield places.board(board), _plots(board, places)
        rows = picture_rows(board.estimator["n"])
        for row in board.rows:
            for record in row.records:
                run = details(record, records.root, pictures, rows, board.score if board.images else None)
                yield places.run(board, record), {"variant": row.variant, **run}


def _plots(board: Board, places: Places) -> dict[str, Any]:
    """Data of a board's plots: rate, distortion and held-out bound of every run, and estimates of every variant."""

    def run(record: RunRecord) -> dict[str, Any]:
        return {
            "id": places.run(board, record),
            "seed": record.seed,
            "rate": record.value("rate"),
            "distortion": record.value("distortion"),
            "bound": record.curves.get(BOUND),
        }

    on_front = rate_distortion_front(board)
    directions = {
        name: 1 if metric.get("higher_is_better") else -1
        for record in board.records
        for name, metric in record.metrics.items()
        if metric.get("higher_is_better") is not None
    }
    chosen = {metric["key"] for metric in shown_metrics(board)}
    return {
        "rows": picture_rows(board.estimator["n"]),
        "score": board.score,
        "unit": board.unit,
        "sign": board.sign,
        "decimals": score_display(board).decimals,
        "directions": {name: sign for name, sign in sorted(directions.items()) if name in chosen},
        "front": sorted((*(plane(row) or ()), row.variant) for row in board.rows if row.variant in on_front),
        "variants": [
            {
                "name": row.variant,
                "colour": place,
                "kind": row_kind(row),
                "figures": {
                    name: [one.mean, one.over_seeds if one.over_seeds is not None else one.over_images]
                    for name, one in sorted(row.estimates.items())
                    if name in chosen
                },
                "runs": [run(record) for record in row.records],
            }
            for place, row in enumerate(board.rows)
        ],
    }


def picture_rows(n: int) -> int:
    """Rows of tiles in a picture of reconstructions of n test images: each row of images above its reconstructions."""
    return 2 * math.ceil(min(SHOWN, n) / COLUMNS)
