"""`vaebench export`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a record as a card that others can read, compare with and import"
EXAMPLE = "vaebench export results/digits/vae-s0-1ce64477 --out cards/vae"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("record", help="a record's folder, its record.json, or the start of its id")
    parser.add_argument("--out", type=Path, required=True, help="the card's folder; must not exist")
    parser.add_argument("--checkpoint", action="store_true",
                        help="put its model.ckpt in, so that others can verify it without training")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"),
                        help="folder of records, to find an id in (default: results)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """`vaebench export`: writes the card and prints its place."""
    from vaebench.records.find import find_record
    from vaebench.reproduction.cards import TEXT, export_card

    record = find_record(arguments.record, arguments.results)
    print(export_card(record, arguments.out, arguments.checkpoint) / TEXT)
    return 0
