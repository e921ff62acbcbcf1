"""All that the page shows of one run when it is opened, as plain JSON."""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path
from typing import Any

from vaebench.leaderboard.table import number
from vaebench.records import RunRecord
from vaebench.records.claims import claimed, imported

SMALLEST = 320  # pixels across: smaller pictures are shown enlarged by a whole number


def details(record: RunRecord, root: Path) -> dict[str, Any]:
    """A run as the page's scripts show it: figures as text, pictures as PNG in base64.

    Args:
        record: the run.
        root: where the records were read; places on the page are told from there.
    """
    hashes = {f"{split} split": str(value) for split, value in record.data["hashes"].items()}
    weights = (record.checkpoint or {}).get("weights")
    place = {"directory": below(record.path, root)} if record.path else {}
    return {
        "seed": record.seed,
        "metrics": [_metric(name, metric) for name, metric in sorted(record.metrics.items())],
        "pictures": [{"name": spaced(name), **_picture(record, path.name)} for name, path in record.pictures().items()],
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
    """A path as seen from `root`; one that is not below it is told by its last part alone."""
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


def _picture(record: RunRecord, file: str) -> dict[str, Any]:
    """A PNG and the size at which it is shown; its own size stands at a fixed place of its header."""
    with record.open(file) as opened:
        png = opened.read()
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    scale = max(1, SMALLEST // max(width, 1))
    return {"png": base64.b64encode(png).decode(), "width": scale * width, "height": scale * height}


def _command(record: RunRecord) -> str:
    """How to train and measure the run again."""
    checkout = f"git checkout {shlex.quote(str(commit))}\n" if (commit := record.environment.get("commit")) else ""
    if record.benchmark:
        return f"{checkout}vaebench bench {shlex.quote(f'configs/benchmark/{record.benchmark}.yaml')}"
    return f"{checkout}vaebench fit --config config.json --seed_everything {record.seed}"


def _words(part: dict[str, Any]) -> dict[str, str]:
    return {spaced(name): _word(value) for name, value in part.items() if value is not None}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value, 0 if isinstance(value, int) else 1)
    return str(value)
