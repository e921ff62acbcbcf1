"""The leaderboard as an HTML page that needs no network: an index of data sets, and a view of every board."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plotly.offline import get_plotlyjs

from vaebench._version import __version__
from vaebench.files import write_atomically
from vaebench.files.templates import templates
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.budgets import LEGEND as BUDGET_LEGEND
from vaebench.leaderboard.budgets import TRIALS_LEGEND
from vaebench.leaderboard.definitions import definitions
from vaebench.leaderboard.details import Pictures, below, in_base64
from vaebench.leaderboard.formats import FORMATS
from vaebench.leaderboard.kinds import KINDS
from vaebench.leaderboard.page_data import page_data
from vaebench.leaderboard.places import Places
from vaebench.leaderboard.table import LEGEND
from vaebench.leaderboard.views import board_view, cards
from vaebench.records import Records

HERE = Path(__file__).parent
SCRIPTS = ("plots.js", "runs.js", "page.js")


@dataclass(frozen=True)
class Site:
    """Addresses of a site that a page is part of, relative to the page; a page alone has none.

    Attributes:
        home: of the index of all boards.
        plotly: of the file of Plotly, which is then not in the page.
        cards: of result cards, by the digest of their record.
    """

    home: str = ""
    plotly: str = ""
    cards: Mapping[str, str] = field(default_factory=dict)


def write_page(path: Path, boards: Sequence[Board], records: Records, single: bool = False) -> None:
    """Writes the page.

    Args:
        path: of the page.
        boards, records: as in `page`.
        single: embed pictures in the page, instead of writing them to the folder '<name of the page>_files' beside it.
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


def page(boards: Sequence[Board], records: Records, pictures: Pictures = in_base64, site: Site | None = None) -> str:
    """The page as text; equal records give identical pages.

    Args:
        boards: from `boards(records)`.
        records: their source, with the damaged ones.
        pictures: gives the address of a picture.
        site: that it is part of.
    """
    site = site or Site()
    environment = templates(HERE)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # the order of keys is that of the page
    places = Places(boards)
    return environment.get_template("page.html").render(
        boards=[board_view(board, places) for board in boards],
        cards=cards(boards, places),
        links={places.board(board): f"#{places.board(board)}" for board in boards},
        site=site,
        data=dict(page_data(boards, records, places, pictures)),
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
        scripts=[(HERE / name).read_text(encoding="utf-8") for name in SCRIPTS],
        plotly="" if site.plotly else get_plotlyjs(),
    )
