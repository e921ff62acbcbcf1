"""Details of one run for the page, as plain JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.leaderboard.display import number
from vaebench.leaderboard.figures import of_run
from vaebench.records import RunRecord
from vaebench.records.claims import claimed, imported

Pictures = Callable[[bytes], str]  # from a PNG to its address
RECONSTRUCTIONS, TILES = "reconstructions", 10  # a picture of the evaluation's, and its test images in a row
SMALLEST = 320  # pixels across: smaller pictures are shown enlarged by a whole number


def in_base64(png: bytes) -> str:
    """A picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def details(
    record: RunRecord, root: Path, pictures: Pictures = in_base64, rows: int = 0, score: str | None = None
) -> dict[str, Any]:
    """A run as the page's scripts show it: figures as text, pictures by their addresses.

    Args:
        record: the run.
        root: folder of the records; paths on the page are relative to it.
        pictures: gives the address of a picture.
        rows: of tiles in the picture of reconstructions.
        score: metric whose values are shown for the images of that picture; None shows none.
    """
    hashes = {f"{split} split": str(value) for split, value in record.data["hashes"].items()}
    weights = (record.checkpoint or {}).get("weights")
    place = {"directory": below(record.path, root)} if record.path else {}
    return {
        "seed": record.seed,
        "metrics": [_metric(name, metric) for name, metric in sorted(record.metrics.items())],
        "pictures": [_picture(record, name, path.name, pictures) for name, path in record.pictures().items()],
        "shown": _shown(record, rows),
        "scores": _scores(record, score, rows),
        "curves": record.curves,
        "facts": {
            "selected": record.selection,
            **_standing(record),
            "started at the data’s mean": "yes" if record.started_at_mean else "no",
            **_words(record.cost),
            **_words(record.times),
            **_words(record.environment),
        },
        "command": _command(record),
        "config": json.dumps(record.config, indent=2, ensure_ascii=False),
        "config_needed": not record.benchmark,
        "hashes": {**place, "record": record.id, "digest": record.digest, **hashes, "weights": str(weights or "none")},
        "warnings": [str(warning) for warning in record.warnings],
        "verdict": str(record.collapse.get("sentence") or record.collapse.get("verdict", "unknown")),
        "collapse": json.dumps(record.collapse, indent=2, ensure_ascii=False),
    }


def below(path: Path, root: Path) -> str:
    """A path relative to `root`; outside `root`, its last part."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def spaced(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


def _standing(record: RunRecord) -> dict[str, str]:
    if not imported(record):
        return {}
    return {"came on": "a card; its figures are claimed" if claimed(record) else "a card; verified here"}


def _metric(name: str, metric: dict[str, Any]) -> dict[str, str]:
    value, reason = metric.get("value"), metric.get("unavailable")
    return {
        "name": spaced(name),
        "value": number(value, 0 if value is not None and float(value).is_integer() else 4),
        "error": number(metric.get("se"), 4),
        "unit": str(metric.get("unit") or ""),
        "remark": "" if value is not None else f"unavailable: {reason or 'not measured'}",
    }


def _picture(record: RunRecord, name: str, file: str, pictures: Pictures) -> dict[str, Any]:
    """A PNG and its displayed size; its own size is at a fixed offset of its header."""
    png = _read(record, file)
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    scale = max(1, SMALLEST // max(width, 1))
    return {"name": spaced(name), "src": pictures(png), "width": scale * width, "height": scale * height}


def _read(record: RunRecord, file: str) -> bytes:
    with record.open(file) as opened:
        return opened.read()


def _shown(record: RunRecord, rows: int) -> str | None:
    """A hash of the test images in the picture of reconstructions, every other row of it; None without the picture.

    The page compares pictures of equal hashes tile by tile; a browser may not read pixels from files beside a page.
    """
    path = record.pictures().get(RECONSTRUCTIONS)
    if path is None or not rows:
        return None
    pixels = record.pixels(RECONSTRUCTIONS)
    height, rest = divmod(pixels.shape[0] - 2, rows)
    if rest or height < 1:
        return None
    strips = [pixels[row * height : row * height + height + 2] for row in range(0, rows, 2)]
    return hashlib.sha256(np.stack(strips).tobytes() + str(pixels.shape).encode()).hexdigest()[:16]


def _scores(record: RunRecord, score: str | None, rows: int) -> list[float]:
    """The score of every image in the picture of reconstructions, in order; empty where there are none."""
    figures = of_run(record, score) if score is not None and record.value(score) is not None else None
    return [] if figures is None else [round(float(value), 3) for value in figures[: rows // 2 * TILES]]


def _command(record: RunRecord) -> str:
    """The command that trains and measures the run again."""
    checkout = f"git checkout {shlex.quote(str(commit))}\n" if (commit := record.environment.get("commit")) else ""
    if record.benchmark:
        name = record.benchmark.removeprefix("repeat_")
        folder = "benchmark" if name == record.benchmark else "repeat"
        return f"{checkout}vaebench bench {shlex.quote(f'configs/{folder}/{name}.yaml')}"
    return f"{checkout}vaebench fit --config config.json --seed_everything {record.seed}"


def _words(part: dict[str, Any]) -> dict[str, str]:
    return {spaced(name): _word(value) for name, value in part.items() if value is not None}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value, 0 if isinstance(value, int) else 1)
    return str(value)
