"""The leaderboard as one HTML file that needs no other file and no network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from vaebench._version import __version__
from vaebench.curves import BOUND
from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.budgets import BUDGETS, TRIALS, TRIALS_LEGEND, budget_table
from vaebench.leaderboard.budgets import LEGEND as BUDGET_LEGEND
from vaebench.leaderboard.details import below, details, spaced
from vaebench.leaderboard.pareto import plane, rate_distortion_front
from vaebench.leaderboard.published import Figure, published
from vaebench.leaderboard.table import LEGEND, facts, named, number, table, title
from vaebench.records import Records, RunRecord
from vaebench.templates import templates

HERE = Path(__file__).parent
COLOURS = 8  # of page.css and plots.js
SHOWN, COLUMNS = 40, 10  # test images on a picture of reconstructions, and in a row of it


def page(boards: Sequence[Board], records: Records) -> str:
    """The page as text. The same records give the same page, byte for byte.

    Args:
        boards: from `boards(records)`.
        records: their source, which knows what was damaged.
    """
    environment = templates(HERE)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # the order of keys is that of the page
    return environment.get_template("page.html").render(
        boards=[_board(index, board) for index, board in enumerate(boards)],
        data={name: part for index, board in enumerate(boards) for name, part in _data(index, board, records)},
        runs=len(records),
        variants=sum(len(board.rows) for board in boards),
        damaged=[{"path": below(d.path, records.root), "reason": d.reason} for d in records.damaged],
        definitions=_definitions(records),
        legends=[LEGEND, f"At equal budget: {BUDGET_LEGEND}", f"By tuning trials: {TRIALS_LEGEND}"],
        version=__version__,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        scripts=[(HERE / name).read_text(encoding="utf-8") for name in ("plots.js", "runs.js", "page.js")],
        plotly=get_plotlyjs(),
    )


def _board(index: int, board: Board) -> dict[str, Any]:
    """What is on the page from the start."""
    sheet = table(board)
    return {
        "id": f"board-{index}",
        "title": title(board),
        "facts": facts(board),
        "columns": sheet.columns,
        "notes": list(enumerate(sheet.notes, 1)),
        "published": [_published(figure) for figure in published(board)],
        "budgets": [_budget(board, budget) for budget in (*BUDGETS, TRIALS)],
        "runs": sum(len(row.records) for row in board.rows),
        "rows": [
            {
                "cells": list(zip(sheet.columns, cells, strict=True)),
                "variant": row.variant,
                "text": " ".join([row.variant, *sorted({r.family for r in row.records}), *_verdicts(row)]),
                "colour": place % COLOURS,
                "runs": [
                    {"id": anchor(index, place, i), "seed": r.seed, "score": number(r.value(board.score), 2)}
                    for i, r in enumerate(row.records)
                ],
            }
            for place, (row, cells) in enumerate(zip(board.rows, sheet.cells, strict=True))
        ],
    }


def anchor(board: int, row: int, run: int) -> str:
    """The id of a run on the page."""
    return f"run-{board}-{row}-{run}"


def _verdicts(row: Row) -> list[str]:
    return sorted({str(record.collapse.get("verdict", "unknown")) for record in row.records})


def _budget(board: Board, budget: str) -> dict[str, Any]:
    kind, sheet = BUDGETS.get(budget), budget_table(board, budget)
    named = {"name": f"By {kind.heading}: {kind.says}" if kind else "By tuning trials"}
    if isinstance(sheet, str):
        return {**named, "why": sheet, "columns": [], "rows": [], "notes": []}
    rows = [list(zip(sheet.columns, cells, strict=True)) for cells in sheet.cells]
    return {**named, "why": "", "columns": sheet.columns, "rows": rows, "notes": sheet.notes}


def _published(figure: Figure) -> dict[str, Any]:
    heading, unit, decimals = named(figure.metric)
    return {
        "figure": figure,
        "metric": f"{heading}, {unit}" if unit else heading,
        "value": number(figure.value, decimals),
        "samples": number(figure.samples),
        "text": f"{figure.family} {figure.variant} {figure.source}",
    }


def _data(index: int, board: Board, records: Records) -> Iterable[tuple[str, dict[str, Any]]]:
    """What the scripts read when it is asked for: the plots of a board, and each of its runs."""
    yield f"board-{index}", _plots(index, board)
    for place, row in enumerate(board.rows):
        for i, record in enumerate(row.records):
            yield anchor(index, place, i), {"variant": row.variant, **details(record, records.root)}


def _plots(index: int, board: Board) -> dict[str, Any]:
    """Rate, distortion and held-out bound of every run, and how pictures of reconstructions are laid out."""

    def run(place: int, i: int, record: RunRecord) -> dict[str, Any]:
        return {
            "id": anchor(index, place, i),
            "seed": record.seed,
            "rate": record.value("rate"),
            "distortion": record.value("distortion"),
            "bound": record.curves.get(BOUND),
        }

    on_front = rate_distortion_front(board)
    return {
        "rows": picture_rows(board.estimator["n"]),
        "front": sorted((*(plane(row) or ()), row.variant) for row in board.rows if row.variant in on_front),
        "variants": [
            {
                "name": row.variant,
                "colour": place,
                "runs": [run(place, i, record) for i, record in enumerate(row.records)],
            }
            for place, row in enumerate(board.rows)
        ],
    }


def picture_rows(n: int) -> int:
    """Rows of tiles on a picture of reconstructions of n test images: each row of images over its reconstructions."""
    return 2 * math.ceil(min(SHOWN, n) / COLUMNS)


def _definitions(records: Iterable[RunRecord]) -> list[dict[str, str]]:
    """What each metric means, in the words of the records; the same name with two meanings is listed twice."""
    directions = {True: "higher is better", False: "lower is better", None: ""}
    found = {
        (spaced(name), str(metric["definition"]), str(metric.get("unit") or ""), metric.get("higher_is_better"))
        for record in records
        for name, metric in record.metrics.items()
        if metric.get("definition")
    }
    return [
        {"name": name, "text": text, "unit": unit, "direction": directions.get(higher, "")}
        for name, text, unit, higher in sorted(found, key=str)
    ]
