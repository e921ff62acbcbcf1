"""A static site of boards and result cards, which any web server or a folder can show.

    <site>/index.html            all boards, and how to submit a card
    <site>/boards/<board>.html   a page a board, as `vaebench leaderboard --html` makes it
    <site>/cards/<card>.html     a page a result card, and the card itself in the folder of that name
    <site>/pictures/             pictures of the boards' pages
    <site>/plotly.js             what draws the plots
    <site>/site.json             every file of the site: a folder with others in it is never overwritten

All links are relative, and no page fetches anything from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from vaebench._version import __version__
from vaebench.display.tables import COLUMNS, metric_rows
from vaebench.errors import UserError
from vaebench.files import read_file, whole_folder
from vaebench.files.templates import templates
from vaebench.leaderboard.boards import Board
from vaebench.leaderboard.details import below
from vaebench.leaderboard.page import HERE as PAGES
from vaebench.leaderboard.page import Site, page
from vaebench.leaderboard.places import Places
from vaebench.leaderboard.views import cards
from vaebench.records import CHECKPOINT, LONGEST, Records, RunRecord
from vaebench.records.claims import CARD, claimed, imported
from vaebench.reproduction.cards import card_name, export_card, read_card

HERE = Path(__file__).parent
MARK = "site.json"
SCHEMA = 1
POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"


def write_site(out: Path, boards: Sequence[Board], records: Records, checkpoints: bool = False) -> list[str]:
    """Writes the site whole, or nothing of it.

    Args:
        out: its folder: a new one, an empty one, or a site that this function wrote, which is then replaced.
        boards: from `boards(records)`.
        records: their source, with the damaged ones.
        checkpoints: put the model.ckpt of runs that have one into their cards.

    Returns:
        What was left out, a sentence each: damaged records, and cards that nobody could import.

    Raises:
        UserError: `out` holds anything that is not of such a site.
    """
    _require_own(out)
    new, former = (out.with_name(f".{out.name}.{kind}") for kind in ("new", "former"))
    shutil.rmtree(new, ignore_errors=True)  # of a killed writer
    with whole_folder(new, "site") as folder:
        left_out = [f"{below(damage.path, records.root)}: {damage.reason}" for damage in records.damaged]
        left_out += _fill(folder, boards, records, checkpoints)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        mark = {"site": SCHEMA, "vaebench": __version__, "files": files}
        (folder / MARK).write_text(json.dumps(mark, indent=0) + "\n", encoding="utf-8")
    if out.is_dir():
        shutil.rmtree(former, ignore_errors=True)
        out.rename(former)
    new.rename(out)
    shutil.rmtree(former, ignore_errors=True)
    return left_out


def _require_own(out: Path) -> None:
    """Checks that a folder holds nothing that a new site would destroy."""
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise UserError(f"'{out}' is no folder; name a new one for the site")
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    try:
        mark = json.loads(read_file(out, MARK, LONGEST))
        own = {MARK, *mark["files"]} if mark["site"] == SCHEMA else set()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        own = set()
    if others := sorted(there - own):
        raise UserError(
            f"'{out}' holds '{others[0]}', which is not of a site that `vaebench site` wrote there, and would be lost; "
            "move it away or name another folder"
        )


def _fill(folder: Path, boards: Sequence[Board], records: Records, checkpoints: bool) -> Iterator[str]:
    """Writes all files but the mark; yields what was left out."""
    places = Places(boards)
    for name in ("boards", "cards", "pictures"):
        (folder / name).mkdir()
    (folder / "plotly.js").write_text(get_plotlyjs(), encoding="utf-8")
    shown = {record.digest: record for board in boards for record in board.records}
    names: dict[str, str] = {}
    for digest, record in shown.items():
        try:
            names[digest] = _write_card(folder / "cards", record, checkpoints)
        except (UserError, OSError) as error:
            yield f"{below(record.path or Path(), records.root)}: has no card, since {error}"

    def beside(png: bytes) -> str:
        file = f"{hashlib.sha256(png).hexdigest()[:24]}.png"
        if not (folder / "pictures" / file).exists():
            (folder / "pictures" / file).write_bytes(png)
        return f"../pictures/{file}"

    pages = {digest: f"../cards/{name}.html" for digest, name in names.items()}
    for board in boards:
        own = Records(board.records)
        own.root, own.damaged = records.root, ()
        site = Site("../index.html", "../plotly.js", pages)
        (folder / "boards" / f"{places.board(board)}.html").write_text(page([board], own, beside, site), "utf-8")
    text = (
        templates(PAGES)
        .get_template("site.html")
        .render(
            cards=cards(boards, places),
            links={places.board(board): f"boards/{places.board(board)}.html" for board in boards},
            damaged=[{"path": below(damage.path, records.root), "reason": damage.reason} for damage in records.damaged],
            runs=len(records),
            claims=sum(map(claimed, records)),
            published=len(names),
            policy=POLICY,
            version=__version__,
        )
    )
    (folder / "index.html").write_text(text, encoding="utf-8")


def _write_card(folder: Path, record: RunRecord, checkpoint: bool) -> str:
    """Writes a record's card and its page into a folder, and returns its name there."""
    name = card_name(record)
    source = record.path or Path()
    weights = checkpoint and (source / CHECKPOINT).is_file() and not (source / CHECKPOINT).is_symlink()
    try:
        card = read_card(export_card(record, folder / name, weights))
    except (UserError, OSError):
        shutil.rmtree(folder / name, ignore_errors=True)
        raise
    text = (
        templates(HERE)
        .get_template("card.html")
        .render(
            name=name,
            files=[CARD, *card.files],
            **_view(record, weights),
            policy=POLICY,
            version=__version__,
        )
    )
    (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return name


def _view(record: RunRecord, weights: bool) -> Mapping[str, Any]:
    """What a card's page shows of its record."""
    protocol = record.protocol
    standing = "measured by the keepers of this board"
    if imported(record):
        standing = "claimed: not measured again here" if claimed(record) else "claimed by others, and verified here"
    return {
        "title": f"{record.variant}, seed {record.seed}, on {record.data['name']}",
        "standing": standing,
        "facts": {
            "family": record.family,
            "benchmark": record.benchmark or "none",
            "measured": record.selection,
            "protocol": f"version {protocol['version']}, K = {protocol['k']}, {protocol['n']} images",
            "commit": record.environment.get("commit") or "none",
            "record": record.id,
            "digest": record.digest,
        },
        "columns": COLUMNS,
        "rows": metric_rows(dict(sorted(record.metrics.items()))),
        "pictures": sorted(path.name for path in record.pictures().values()),
        "config": json.dumps(record.config, indent=2, ensure_ascii=False),
        "weights": weights,
    }
