"""Boards as text to copy: Markdown, CSV, LaTeX, JSON and BibTeX."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from vaebench._version import __version__
from vaebench.configuration import parts
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.cells import Cell, Column, Table
from vaebench.leaderboard.facts import facts, title
from vaebench.leaderboard.headline import headline
from vaebench.leaderboard.markdown_tables import markdown
from vaebench.leaderboard.table import table
from vaebench.leaderboard.training import trained

ADDRESS = re.compile(r"https?://[^\s),;]+")
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--",
           "±": r"$\pm$", "≤": r"$\leq$", "β": r"$\beta$", "k̂": r"$\hat{k}$",
           **{c: f"\\{c}" for c in "&%$#_{}"}}  # fmt: skip
MARK = re.compile("|".join(re.escape(mark) for mark in sorted(SPECIAL, key=len, reverse=True)))


def latex(boards: Iterable[Board]) -> str:
    """Tables for the package booktabs, with footnotes below."""
    return "\n".join(_latex(board) for board in boards)


def _latex(board: Board) -> str:
    sheet = table(board)
    kept = _printed(sheet)
    lines = [
        f"% {title(board)}",
        r"\begin{tabular}{" + "".join("l" if sheet.columns[i].words else "r" for i in kept) + "}",
        r"\toprule",
        _row(_heading(sheet.columns[i]) for i in kept),
        r"\midrule",
        *(_row(_cell(cells[i]) for i in kept) for cells in sheet.cells),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"% {index}: {note}" for index, note in enumerate(sheet.notes, 1)),
    ]
    return "\n".join(lines) + "\n"


def _printed(sheet: Table) -> list[int]:
    return [index for index, column in enumerate(sheet.columns) if not column.page]


def _heading(column: Column) -> str:
    return tex(column.heading + (f" ({column.unit})" if column.unit else ""))


def _cell(cell: Cell) -> str:
    notes = ",".join(map(str, cell.notes))
    return tex(cell.text) + (rf"\textsuperscript{{{notes}}}" if notes else "")


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def tex(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(tex("β_half, 5 % of −1"))
    $\beta$\_half, 5 \% of $-$1
    """
    return MARK.sub(lambda match: SPECIAL[match[0]], text)


def comma_separated(boards: Iterable[Board]) -> str:
    """One line per variant and board, with unrounded numbers."""
    rows = [row for board in boards for row in _plain(board)]
    names = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_flat, names))
    writer.writerows([_flat(row.get(name)) for name in names] for row in rows)
    return out.getvalue()


def _flat(value: Any) -> Any:
    """The value of a cell; text that a spreadsheet would read as a formula gets a leading apostrophe."""
    text = " ".join(map(str, value)) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def as_json(boards: Iterable[Board]) -> str:
    """Every board with its facts, its headline, and its variants with unrounded numbers."""
    entries = [
        {
            "title": title(board),
            "data": board.data,
            "estimator": board.estimator,
            "surrogate": board.surrogate,
            "score": board.score,
            "unit": board.unit,
            "higher_is_better": board.sign > 0,
            "facts": facts(board),
            "state": headline(board).state,
            "sentence": headline(board).sentence,
            "rows": list(_plain(board, with_board=False)),
        }
        for board in boards
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(board: Board, with_board: bool = True) -> Iterator[dict[str, Any]]:
    """The rows of a board as plain values by name."""
    for row in board.rows:
        score, gap = row.estimates.get(board.score), row.gap
        budgets = [one for record in row.records if (one := trained(record))]
        yield {
            **({"board": title(board)} if with_board else {}),
            "variant": row.variant,
            "rank_first": row.rank[0] if row.rank else None,
            "rank_last": row.rank[1] if row.rank else None,
            "standing": _standing(row.claimed, row.provisional, bool(row.rank)),
            "seeds": row.seeds,
            "score": board.score,
            "mean": score.mean if score else None,
            "se_seeds": score.over_seeds if score else None,
            "se_images": score.over_images if score else None,
            "difference": gap.difference if gap else None,
            "difference_low": gap.interval[0] if gap else None,
            "difference_high": gap.interval[1] if gap else None,
            "turns_at_seed_sd": gap.turns if gap else None,
            **{name: one.mean for name, one in sorted(row.estimates.items()) if name != board.score},
            "epochs": sum(one.epochs for one in budgets) / len(budgets) if budgets else None,
            "records": [record.id for record in row.records],
        }


def _standing(claimed: bool, provisional: bool, ranked: bool) -> str:
    return "claimed" if claimed else "provisional" if provisional else "ranked" if ranked else "not ranked"


def bibtex(boards: Sequence[Board]) -> str:
    """The papers that the classes of these models reference, and vaebench itself."""
    title = "vaebench, a benchmark of variational autoencoders"
    entries = {"vaebench": _entry("vaebench", title, "", "", f"version {__version__}", "")}
    for part in _parts(boards):
        reference = part.doc.partition("Reference:")[2].partition("\n\n")[0]
        for text in re.split(r";\s", " ".join(reference.split())):
            address, year = ADDRESS.search(text), re.search(r"\b(?:19|20)\d\d\b", text)
            if address and year:
                authors = re.sub(r"^[^A-ZÀ-Þ]*", "", text[: year.start()].rpartition(": ")[2]).strip(" ,(")
                first = re.split(r",| & | et ", authors)[0]
                key = re.sub("[^a-z]", "", first.lower()) + year[0]
                name = text[year.end() : address.start()].strip(" ,.(")
                name = name if name[:1].isupper() else ""
                entries.setdefault(key, _entry(key, name, authors, year[0], address[0].rstrip("."), part.name))
    return "\n".join(entries[key] for key in sorted(entries))


def _entry(key: str, title: str, authors: str, year: str, where: str, part: str) -> str:
    """An entry; it has a title only where the docstring gives one."""
    names = re.sub(r"\s*(?:,|&)\s*", " and ", authors.replace(" et al.", " and others")).strip()
    fields = {"title": f"{{{tex(title)}}}" if title else "", "author": tex(names), "year": year}
    fields["url" if where.startswith("http") else "howpublished"] = where
    fields["note"] = part and f"{tex(part)} of vaebench"
    return f"@misc{{{key},\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in fields.items() if v) + "}\n"


def _parts(boards: Sequence[Board]) -> list[parts.Part]:
    """The classes of the suite that the configurations of these runs name."""
    paths = {path for board in boards for record in board.records for path in _class_paths(record.config)}
    described = {part.path: part for path in paths if (part := parts.part_at(path)) and "Reference:" in part.doc}
    return [described[path] for path in sorted(described)]


def _class_paths(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(config.get("class_path"), str):
            yield config["class_path"]
        for value in config.values():
            yield from _class_paths(value)


FORMATS: dict[str, Callable[[Sequence[Board]], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": comma_separated,
    "json": as_json,
    "bibtex": bibtex,
}
