"""`vaebench import`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import root_option, trust_option

HELP = "take another's card into a folder of records, as a claim until it is verified"
EXAMPLE = "vaebench import cards/vae --results others"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("card", type=Path, help="the card's folder, or its card.json")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    root_option(parser)
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench import`: copies the record in and says how to verify it."""
    from vaebench.configuration.registered import moved
    from vaebench.reproduction.cards import import_card

    say(*import_card(arguments.card, arguments.results, moved()))
    return 0


def say(place: Path, before: bool) -> None:
    """Prints where a claim is, and how it is verified."""
    print(f"{place}{' (imported before)' if before else ''}")
    checkpoint = "" if (place / "model.ckpt").is_file() else " --checkpoint FILE"
    print(f"claimed until it is verified:  vaebench verify {place}{checkpoint}\n"
          f"or trained again:              vaebench reproduce {place}")  # fmt: skip
