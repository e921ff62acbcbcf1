"""The leaderboard as an HTML page that needs no network: an index of data sets, and a view of every board."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from vaebench._version import __version__
from vaebench.curves import BOUND
from vaebench.files import write_atomically
from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.budgets import BUDGETS, TRIALS, TRIALS_LEGEND, budget_table
from vaebench.leaderboard.budgets import LEGEND as BUDGET_LEGEND
from vaebench.leaderboard.definitions import definitions
from vaebench.leaderboard.details import Pictures, below, details, in_base64
from vaebench.leaderboard.forest import Forest, Mark, forest
from vaebench.leaderboard.formats import FORMATS
from vaebench.leaderboard.headline import headline
from vaebench.leaderboard.kinds import KINDS, kind
from vaebench.leaderboard.pareto import plane, rate_distortion_front
from vaebench.leaderboard.published import Figure, published
from vaebench.leaderboard.table import LEGEND, facts, level, named, number, shown_name, table, title
from vaebench.records import Records, RunRecord
from vaebench.templates import templates

HERE = Path(__file__).parent
SCRIPTS = ("plots.js", "runs.js", "page.js")
SHOWN, COLUMNS = 40, 10  # test images on a picture of reconstructions, and in a row of it


def write_page(path: Path, boards: Sequence[Board], records: Records, single: bool = False) -> None:
    """Writes the page.

    Args:
        path: of the page.
        boards, records: as `page` takes them.
        single: pictures in the page itself, instead of in the folder '<name of the page>_files' beside it.
    """
    if single:
        write_atomically(path, page(boards, records).encode())
        return
    folder = path.with_name(f"{path.stem}_files")
    written: set[str] = set()

    def beside(png: bytes) -> str:
        file = f"{hashlib.sha256(png).hexdigest()[:24]}.png"
        if file not in written:
            write_atomically(folder / file, png)
            written.add(file)
        return f"{folder.name}/{file}"

    text = page(boards, records, beside)
    write_atomically(path, text.encode())
    for old in folder.glob("*.png"):  # of a former page
        if old.name not in written and re.fullmatch(r"[0-9a-f]{24}\.png", old.name):
            old.unlink()


def page(boards: Sequence[Board], records: Records, pictures: Pictures = in_base64) -> str:
    """The page as text. The same records give the same page, byte for byte.

    Args:
        boards: from `boards(records)`.
        records: their source, which knows what was damaged.
        pictures: gives the address of a picture.
    """
    environment = templates(HERE)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # the order of keys is that of the page
    places = Places(boards)
    return environment.get_template("page.html").render(
        boards=[_board(board, places) for board in boards],
        cards=_cards(boards, places),
        data=dict(_data(boards, records, places, pictures)),
        copies={f"{places.board(board)}-{name}": make([board]) for board in boards for name, make in FORMATS.items()},
        formats=list(FORMATS),
        runs=len(records),
        kinds=KINDS,
        variants=sum(len(board.rows) for board in boards),
        damaged=[{"path": below(d.path, records.root), "reason": d.reason} for d in records.damaged],
        definitions=definitions(records),
        legends=[LEGEND, f"At equal budget: {BUDGET_LEGEND}", f"By tuning trials: {TRIALS_LEGEND}"],
        version=__version__,
        images="data:" if pictures is in_base64 else "data: 'self' file:",
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        scripts=[(HERE / name).read_text(encoding="utf-8") for name in SCRIPTS],
        plotly=get_plotlyjs(),
    )


class Places:
    """Addresses on the page that stay when records are added: of boards by what they hold, of runs by their ids."""

    def __init__(self, boards: Iterable[Board]) -> None:
        self._boards: dict[int, str] = {}
        self._runs: dict[tuple[int, int], str] = {}
        taken: set[str] = set()
        for board in boards:
            self._boards[id(board)] = _free(_slug(board), taken)
            for record in board.records:
                self._runs[id(board), id(record)] = _free(f"run-{record.id}", taken)

    def board(self, board: Board) -> str:
        """The id of a board."""
        return self._boards[id(board)]

    def run(self, board: Board, record: RunRecord) -> str:
        """The id of a run on a board."""
        return self._runs[id(board), id(record)]


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken, as by a run that is there twice."""
    found = next(one for i in range(len(taken) + 1) if (one := f"{name}-{i + 1}" if i else name) not in taken)
    taken.add(found)
    return found


def _slug(board: Board) -> str:
    parts = [str(board.data["name"]), str(board.data["measure"])]
    parts += [board.wanted] if board.wanted != "log_likelihood" else []
    parts += [f"k-{board.estimator['k']}"] if board.estimator.get("k") is not None else []
    parts += ["surrogate"] * board.surrogate + ["trials"] * bool(board.trials)
    return "board-" + "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)


def _cards(boards: Sequence[Board], places: Places) -> list[dict[str, Any]]:
    """One card a data set and measure: its largest board in a sentence, and the others."""
    sets: dict[tuple[str, str], list[Board]] = {}
    for board in boards:
        sets.setdefault((board.data["name"], board.data["measure"]), []).append(board)
    return [_card(*names, found, places) for names, found in sorted(sets.items(), key=lambda pair: -_models(pair[1]))]


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


def _board(board: Board, places: Places) -> dict[str, Any]:
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
        "metrics": _metrics(board),
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
                "kind": _kind(row),
                "runs": [
                    {
                        "id": places.run(board, record),
                        "seed": record.seed,
                        "score": number(record.value(board.score), shown_name(board)[2]),
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
    return " ".join([row.variant, *families, _kind(row), *verdicts, str(board.data["name"])])


def _kind(row: Row) -> str:
    return kind(row.records[0]) if row.records else KINDS[0]


def _metrics(board: Board) -> list[dict[str, str]]:
    """The figures that a board's forest can show: those with a better end, its own first."""
    directed = {
        name
        for record in board.records
        for name, metric in record.metrics.items()
        if metric.get("value") is not None and metric.get("higher_is_better") is not None
    }
    known = [name for name in sorted(directed - {board.score}) if any(name in row.estimates for row in board.rows)]
    own = [board.score] if any(board.score in row.estimates for row in board.rows) else []
    return [{"key": name, "name": named(name, board.unit if name == board.score else "")[0]} for name in own + known]


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
        "axis": f"difference from the best in {shown_name(board)[0]}{f', {board.unit}' if board.unit else ''}",
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


def _data(
    boards: Iterable[Board], records: Records, places: Places, pictures: Pictures
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the scripts read when it is asked for: the plots of a board, and each of its runs."""
    for board in boards:
        yield places.board(board), _plots(board, places)
        rows = picture_rows(board.estimator["n"])
        for row in board.rows:
            for record in row.records:
                found = details(record, records.root, pictures, rows, board.score if board.images else None)
                yield places.run(board, record), {"variant": row.variant, **found}


def _plots(board: Board, places: Places) -> dict[str, Any]:
    """Rate, distortion and held-out bound of every run, and what else is drawn of a board."""

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
    chosen = {metric["key"] for metric in _metrics(board)}
    return {
        "rows": picture_rows(board.estimator["n"]),
        "score": board.score,
        "unit": board.unit,
        "sign": board.sign,
        "decimals": shown_name(board)[2],
        "directions": {name: sign for name, sign in sorted(directions.items()) if name in chosen},
        "front": sorted((*(plane(row) or ()), row.variant) for row in board.rows if row.variant in on_front),
        "variants": [
            {
                "name": row.variant,
                "colour": place,
                "kind": _kind(row),
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
    """Rows of tiles on a picture of reconstructions of n test images: each row of images over its reconstructions."""
    return 2 * math.ceil(min(SHOWN, n) / COLUMNS)
