"""`vaebench pull`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import root_option, trust_option
from vaebench.commands.import_ import say

HELP = "take a card from the Hugging Face Hub into a folder of records, as a claim until it is verified"
EXAMPLE = "vaebench pull me/digits-vae --results others"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repository", metavar="OWNER/NAME", help="a repository that `vaebench push` filled")
    parser.add_argument("--revision", help="a branch, tag or commit (default: the newest)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    root_option(parser)
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench pull`: copies the record in and says how to verify it."""
    from vaebench.configuration.registered import moved
    from vaebench.publishing.hub import pull

    say(*pull(arguments.repository, arguments.results, moved(), arguments.revision))
    return 0
