"""Tables of figures for notebooks, as HTML, and as pandas' DataFrames where pandas is installed; text for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any

from vaebench.errors import UserError

COLUMNS = ("metric", "value", "± s.e.", "unit", "definition")


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", below: str = "") -> str:
    """A table in HTML.

    >>> html_table(["a"], [[1.5], ["<b>"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1.5</td></tr><tr><td>&lt;b&gt;</td></tr></tbody></table>'

    Args:
        columns: headings.
        rows: texts and numbers; None is an empty cell.
        caption, below: texts above and below it.
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(_text(cell))}</td>' for cell in row)}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    note = f"<p>{escape(below)}</p>" if below else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _text(cell: Any) -> str:
    return "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of metrics under `COLUMNS`; where one is unavailable, its reason is its definition."""
    return [
        [name, "unavailable", None, None, metric.get("unavailable")]
        if metric.get("value") is None
        else [name, *(metric.get(key) for key in ("value", "se", "unit", "definition"))]
        for name, metric in metrics.items()
    ]


def metrics_html(metrics: Mapping[str, Mapping[str, Any]], collapse: Mapping[str, Any], caption: str = "") -> str:
    """All metrics of an evaluation as an HTML table, with the verdict on posterior collapse."""
    return html_table(COLUMNS, metric_rows(metrics), caption, f"posterior collapse: {collapse.get('sentence', '')}")


def frame(rows: Sequence[Mapping[str, Any]], index: str) -> Any:
    """A DataFrame of rows with the same or different columns, indexed by one of them.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise UserError("a DataFrame needs pandas, which is not installed; `pip install pandas` does that") from None
    return pandas.DataFrame([dict(row) for row in rows]).set_index(index)


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> print(escaped("a|b <i> <0.01"))
    a\|b \<i> <0.01
    """
    return re.sub(r"([\\`*\[\]|]|<(?=[A-Za-z/!?])|&(?=[A-Za-z#]))", r"\\\1", " ".join(text.split()))
