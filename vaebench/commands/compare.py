"""`vaebench compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "compare two variants or runs on the same images: difference, interval, probability, verdict"
EXAMPLE = "vaebench compare iwae vae --results results --html comparison.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    what = "a variant as the leaderboard names it, the id of a record, or the folder of a run"
    parser.add_argument("first", metavar="A", help=what)
    parser.add_argument("second", metavar="B", help="another")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--metric", help="compare by this figure of the records, such as mig, elbo or ais "
                        "(default: what their benchmark names, or else log_likelihood)")  # fmt: skip
    parser.add_argument("--html", type=Path, help="draw the comparison into this file, which needs no network")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench compare`: prints what the records say of two variants, and names the page."""
    from vaebench.leaderboard.versus import versus
    from vaebench.leaderboard.versus_text import plain

    comparisons = versus(arguments.first, arguments.second, arguments.results, arguments.metric)
    print(plain(comparisons), end="")
    if arguments.html:
        from vaebench.files import write_atomically
        from vaebench.leaderboard.versus_page import versus_page

        write_atomically(arguments.html, versus_page(comparisons).encode())
        print(f"\nPage: {arguments.html.resolve()}")
    return 0
