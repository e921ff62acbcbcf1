"""`vaebench site`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "write the boards and result cards of a folder of records as a static site"
EXAMPLE = "vaebench site results --out public"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder of records")
    parser.add_argument("--out", type=Path, required=True,
                        help="the site's folder: a new one, or a former site there, which is replaced")  # fmt: skip
    parser.add_argument("--metric", help="rank by this figure of the records (default: as `vaebench leaderboard`)")
    parser.add_argument("--trials", action="store_true", help="rank trials of sweeps among the other runs")
    parser.add_argument("--checkpoints", action="store_true",
                        help="put every model.ckpt into its card, so that others can verify it")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """`vaebench site`: writes the site and names its index."""
    from vaebench.leaderboard import ranked
    from vaebench.publishing.site import write_site

    records, boards = ranked(arguments.results, arguments.metric, trials=arguments.trials)
    left_out = write_site(arguments.out, boards, records, arguments.checkpoints)
    print(arguments.out / "index.html")
    for sentence in left_out:
        print(f"vaebench: left out: {sentence}", file=sys.stderr)
    return 0
