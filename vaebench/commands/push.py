"""`vaebench push`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import trust_option

HELP = "put a card with its weights on the Hugging Face Hub"
EXAMPLE = "vaebench push results/digits/vae-s0-1ce64477 me/digits-vae"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("record", help="a card's folder; or a record's folder, its record.json, or the start of its id")
    parser.add_argument("repository", metavar="OWNER/NAME", help="a repository of models; made where there is none")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--results", type=Path, default=Path("results"),
                        help="folder of records, to find an id in (default: results)")  # fmt: skip
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench push`: commits the card and prints the address of the commit."""
    from vaebench.publishing.hub import push

    print(push(arguments.record, arguments.repository, arguments.results, arguments.private))
    return 0
