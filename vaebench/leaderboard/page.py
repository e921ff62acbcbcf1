"""The leaderboard as one HTML file that needs no other file and no network."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from vaebench._version import __version__
from vaebench.leaderboard.boards import Board, Row
from vaebench.leaderboard.table import LEGEND, facts, number, table, title
from vaebench.records import Records, RunRecord

HERE = Path(__file__).parent
BOUND = "val/elbo"
COLOURS = 8  # of page.css and page.js


def page(boards: Sequence[Board], records: Records) -> str:
    """The page as text. The same records give the same page, byte for byte.

    Args:
        boards: from `boards(records)`.
        records: their source, which knows what was damaged.
    """
    colours = {name: i for i, name in enumerate(sorted({row.variant for board in boards for row in board.rows}))}
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        boards=[_board(index, board, records.root, colours) for index, board in enumerate(boards)],
        plots=[_plots(index, board, colours) for index, board in enumerate(boards)],
        runs=len(records),
        variants=sum(len(board.rows) for board in boards),
        damaged=[{"path": _below(d.path, records.root), "reason": d.reason} for d in records.damaged],
        definitions=_definitions(records),
        legend=LEGEND,
        version=__version__,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
    )


def _board(index: int, board: Board, root: Path, colours: Mapping[str, int]) -> dict[str, Any]:
    sheet = table(board)
    return {
        "id": f"board-{index}",
        "title": title(board),
        "facts": facts(board),
        "score": board.score,
        "columns": sheet.columns,
        "notes": list(enumerate(sheet.notes, 1)),
        "rows": [
            {
                "cells": list(zip(sheet.columns, cells, strict=True)),
                "variant": row.variant,
                "family": row.records[0].family,
                "colour": colours[row.variant] % COLOURS,
                "runs": [
                    _run(_anchor(index, place, i), record, root, board.score) for i, record in enumerate(row.records)
                ],
            }
            for place, (row, cells) in enumerate(zip(board.rows, sheet.cells, strict=True))
        ],
    }


def _anchor(board: int, row: int, run: int) -> str:
    return f"run-{board}-{row}-{run}"


def _run(anchor: str, record: RunRecord, root: Path, score: str) -> dict[str, Any]:
    hashes = {f"{split} split": value for split, value in record.data["hashes"].items()}
    weights = (record.checkpoint or {}).get("weights")
    return {
        "id": anchor,
        "record": record,
        "score": number(record.value(score), 2),
        "place": _below(record.path, root) if record.path else "",
        "metrics": [_metric(name, metric) for name, metric in sorted(record.metrics.items())],
        "pictures": [{"name": name, **_picture(path)} for name, path in record.pictures().items()],
        "config": json.dumps(record.config, indent=2, ensure_ascii=False),
        "verdict": str(record.collapse.get("sentence") or record.collapse.get("verdict", "unknown")),
        "collapse": json.dumps(record.collapse, indent=2, ensure_ascii=False),
        "facts": {
            "selected": record.selection,
            "started at the data’s mean": "yes" if record.started_at_mean else "no",
            **_words(record.cost),
            **_words(record.times),
            **_words(record.environment),
        },
        "hashes": {"record": record.id, "digest": record.digest, **hashes, "weights": weights or "none"},
        "command": _command(record),
    }


def _metric(name: str, metric: dict[str, Any]) -> dict[str, str]:
    value, reason = metric.get("value"), metric.get("unavailable")
    return {
        "name": _spaced(name),
        "value": number(value, 0 if isinstance(value, int) else 4),
        "error": number(metric.get("se"), 4),
        "unit": str(metric.get("unit") or ""),
        "remark": "" if value is not None else f"unavailable: {reason or 'not measured'}",
    }


def _picture(path: Path) -> dict[str, Any]:
    """A PNG as a data address; its size stands at a fixed place of its header, and small ones are shown larger."""
    png = path.read_bytes()
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    scale = max(1, 320 // max(width, 1))
    address = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return {"address": address, "width": scale * width, "height": scale * height}


def _command(record: RunRecord) -> str:
    """How to train and measure the run again."""
    checkout = f"git checkout {shlex.quote(str(commit))}\n" if (commit := record.environment.get("commit")) else ""
    if record.benchmark:
        return f"{checkout}vaebench bench {shlex.quote(f'configs/benchmark/{record.benchmark}.yaml')}"
    return f"{checkout}vaebench fit --config config.json --seed_everything {record.seed}"


def _definitions(records: Iterable[RunRecord]) -> list[dict[str, str]]:
    """What each metric means, in the words of the records; the same name with two meanings is listed twice."""
    directions = {True: "higher is better", False: "lower is better", None: ""}
    found = {
        (_spaced(name), str(metric["definition"]), str(metric.get("unit") or ""), metric.get("higher_is_better"))
        for record in records
        for name, metric in record.metrics.items()
        if metric.get("definition")
    }
    return [
        {"name": name, "text": text, "unit": unit, "direction": directions.get(higher, "")}
        for name, text, unit, higher in sorted(found, key=str)
    ]


def _plots(index: int, board: Board, colours: Mapping[str, int]) -> dict[str, Any]:
    """What the scripts draw: the rate–distortion plane and the held-out bound of every run."""

    def run(place: int, i: int, row: Row) -> dict[str, Any]:
        record = row.records[i]
        return {
            "id": _anchor(index, place, i),
            "seed": record.seed,
            "rate": record.value("rate"),
            "distortion": record.value("distortion"),
            "bound": record.curves.get(BOUND),
        }

    return {
        "variants": [
            {
                "name": row.variant,
                "colour": colours[row.variant],
                "runs": [run(place, i, row) for i in range(len(row.records))],
            }
            for place, row in enumerate(board.rows)
        ],
    }


def _words(part: dict[str, Any]) -> dict[str, str]:
    return {_spaced(name): _word(value) for name, value in part.items() if value is not None}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value, 0 if isinstance(value, int) else 1)
    return str(value)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
