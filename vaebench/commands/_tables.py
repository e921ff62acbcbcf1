"""Tables for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from vaebench.display.terminal import wide

if TYPE_CHECKING:
    from vaebench.configuration.parts import Part
    from vaebench.records import RunRecord


def metrics_table(record: RunRecord) -> None:
    """Prints every metric of a record with its standard error, unit and definition, and the collapse verdict."""
    table = Table("metric", "value", "± s.e.", "unit", "definition", title=f"{record.variant}, seed {record.seed}")
    for name, metric in record.metrics.items():
        if metric.get("value") is None:
            table.add_row(name, "unavailable", "", "", escape(str(metric.get("unavailable"))))
            continue
        error = "" if metric["se"] is None else f"{metric['se']:.4g}"
        table.add_row(name, f"{metric['value']:.4f}", error, metric["unit"], escape(metric["definition"]))
    console = wide()
    console.print(table)
    console.print(f"posterior collapse: {record.collapse['sentence']}", highlight=False, markup=False)
    for warning in record.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, style="yellow")


def files_table(files: Mapping[str, Path]) -> None:
    """Prints one line a file of the suite: its name, and the first sentence of the comment that it begins with."""
    table = Table(Column("name", overflow="fold"), "what it is")
    for name, path in files.items():
        lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        first = re.split(r"(?<=[.?])(?<!al\.)\s", " ".join(line.lstrip("# ") for line in lines), maxsplit=1)[0]
        table.add_row(name, escape(first))
    wide().print(table)


def parts_table(parts: Iterable[Part], title: str | None = None) -> None:
    """Prints one line per part: its name, the first line of its docstring, and its reference.

    Args:
        parts: the parts.
        title: of a table with short names; None shows neither.
    """
    short = ["also"] if title else []
    reference = Column("reference", overflow="fold")  # whole, to be copied
    table = Table("name", *short, "what it is", reference, title=title)
    for part in parts:
        address = re.search(r"https?://[^\s),;]+", part.doc)
        names = [part.listed, *([", ".join(part.short)] if title else [])]
        table.add_row(*names, escape(part.doc.partition("\n")[0]), address[0].rstrip(".") if address else "")
    wide().print(table)
