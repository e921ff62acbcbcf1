"""What the templates of the leaderboard page render: cards of data sets, and boards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.budgets import TRIALS, budget_table
from vaebench.leaderboard.costs import BUDGETS, doubts
from vaebench.leaderboard.display import display, number, score_display
from vaebench.leaderboard.facts import facts, title
from vaebench.leaderboard.forest import Forest, Mark, forest
from vaebench.leaderboard.headline import headline
from vaebench.leaderboard.kinds import KINDS, kind
from vaebench.leaderboard.places import Places
from vaebench.leaderboard.published import Figure, published
from vaebench.leaderboard.table import level, table


def cards(boards: Sequence[Board], places: Places) -> list[dict[str, Any]]:
    """One card a data set and measure: its largest board in a sentence, and the others."""
    sets: dict[tuple[str, str], list[Board]] = {}
    for board in boards:
        sets.setdefault((board.data["name"], board.data["measure"]), []).append(board)
    largest = sorted(sets.items(), key=lambda pair: -_models(pair[1]))
    return [_card(*names, group, places) for names, group in largest]


def _models(boards: Iterable[Board]) -> int:
    return sum(len(board.rows) for board in boards)


def _card(name: str, measure: str, boards: Sequence[Board], places: Places) -> dict[str, Any]:
    benchmarks = [board for board in boards if not board.trials and not board.surrogate] or list(boards)
    first = max(benchmarks, key=lambda board: len(board.rows))
    said, seeds = headline(first), sorted({len(row.seeds) for row in first.rows if row.seeds})
    return {
        "name": name,
        "measure": measure,
        "id": places.board(first),
        "title": title(first),
        "models": len(first.rows),
        "seeds": "–".join(dict.fromkeys(str(end) for end in (seeds[0], seeds[-1]))) if seeds else "0",
        "images": number(first.estimator["n"]),
        "said": said,
        "leader": said.leader.variant if said.leader else "",
        "others": [
            {
                "id": places.board(board),
                "title": title(board),
                "models": len(board.rows),
                "state": headline(board).state,
            }
            for board in boards
            if board is not first
        ],
        "text": " ".join([name, measure, *(row.variant for board in boards for row in board.rows)]),
    }


def board_view(board: Board, places: Places) -> dict[str, Any]:
    """What is on the page from the start."""
    sheet = table(board)
    return {
        "id": places.board(board),
        "title": title(board),
        "said": headline(board),
        "facts": facts(board),
        "forest": _forest(board, forest(board), places),
        "columns": sheet.columns,
        "levels": [level(board, column.key) for column in sheet.columns],
        "notes": list(enumerate(sheet.notes, 1)),
        "metrics": shown_metrics(board),
        "score": board.score,
        "published": [_published(figure) for figure in published(board)],
        "budgets": [_budget(board, budget) for budget in (*BUDGETS, TRIALS)],
        "runs": len(board.records),
        "rows": [
            {
                "cells": list(zip(sheet.columns, cells, strict=True)),
                "place": place,
                "variant": row.variant,
                "text": _words(board, row),
                "kind": row_kind(row),
                "runs": [
                    {
                        "id": places.run(board, record),
                        "record": record.digest,
                        "seed": record.seed,
                        "score": number(record.value(board.score), score_display(board).decimals),
                    }
                    for record in row.records
                ],
            }
            for place, (row, cells) in enumerate(zip(board.rows, sheet.cells, strict=True))
        ],
    }


def _words(board: Board, row: Row) -> str:
    """What the filter looks through."""
    verdicts = sorted({str(record.collapse.get("verdict", "unknown")) for record in row.records})
    families = sorted({record.family for record in row.records})
    return " ".join([row.variant, *families, row_kind(row), *verdicts, str(board.data["name"])])


def row_kind(row: Row) -> str:
    return kind(row.records[0]) if row.records else KINDS[0]


def shown_metrics(board: Board) -> list[dict[str, str]]:
    """The figures that a board's forest can show: those with a better end, its own first."""
    directed = {
        name
        for record in board.records
        for name, metric in record.metrics.items()
        if metric.get("value") is not None and metric.get("higher_is_better") is not None
    }
    known = [name for name in sorted(directed - {board.score}) if any(name in row.estimates for row in board.rows)]
    own = [board.score] if any(board.score in row.estimates for row in board.rows) else []
    return [
        {"key": name, "name": display(name, board.unit if name == board.score else "").heading} for name in own + known
    ]


def _forest(board: Board, drawn: Forest, places: Places) -> dict[str, Any]:
    """The forest plot in per cent of its width."""
    low, high = drawn.axis

    def at(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 3)

    def bar(mark: Mark, half: float | None) -> tuple[float, float] | None:
        if not half or mark.difference - half > high or mark.difference + half < low:
            return None
        start = at(mark.difference - half)
        return start, round(at(mark.difference + half) - start, 3)

    band = drawn.band and (at(drawn.band[0]) - 0.8, at(drawn.band[1]) - at(drawn.band[0]) + 1.6)
    return {
        "axis": f"difference from the best in {score_display(board).heading}{f', {board.unit}' if board.unit else ''}",
        "ticks": [{"at": at(tick), "text": f"{tick:g}".replace("-", "−")} for tick in drawn.ticks],
        "band": band,
        "marks": [
            {
                "id": places.run(board, mark.row.records[0]),
                "variant": mark.row.variant,
                "text": _words(board, mark.row),
                "kind": mark.kind,
                "at": at(mark.difference),
                "off": not low <= mark.difference <= high,
                "both": bar(mark, mark.over_both),
                "images": bar(mark, mark.over_images),
                "alone": mark.alone,
                "tie": mark.tie,
                "shown": mark.text,
                "seeds": len(mark.row.seeds),
            }
            for mark in drawn.marks
        ],
    }


def _budget(board: Board, budget: str) -> dict[str, Any]:
    kind, sheet = BUDGETS.get(budget), budget_table(board, budget)
    named = {"name": f"By {budget}: {kind.says}" if kind else "By tuning trials", "doubts": doubts(board, budget)}
    if isinstance(sheet, str):
        return {**named, "why": sheet, "columns": [], "rows": [], "notes": []}
    rows = [list(zip(sheet.columns, cells, strict=True)) for cells in sheet.cells]
    return {**named, "why": "", "columns": sheet.columns, "rows": rows, "notes": sheet.notes}


def _published(figure: Figure) -> dict[str, Any]:
    heading, unit, decimals = display(figure.metric)
    return {
        "figure": figure,
        "metric": f"{heading}, {unit}" if unit else heading,
        "value": number(figure.value, decimals),
        "samples": number(figure.samples),
        "text": f"{figure.family} {figure.variant} {figure.source}",
    }
