"""`vaebench plan`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "how many seeds and images it takes to see a difference of two variants, and what that costs"
EXAMPLE = "vaebench plan iwae vae --difference 0.2 --results results"


def arguments(parser: argparse.ArgumentParser) -> None:
    what = "a variant as the leaderboard names it, the id of a record, or the folder of a run"
    parser.add_argument("first", metavar="A", help=what)
    parser.add_argument("second", metavar="B", help="another")
    parser.add_argument("--difference", type=float,
                        help="to be seen, in the metric's unit (default: as large as the one measured)")  # fmt: skip
    parser.add_argument("--power", type=float, default=0.8, help="probability of seeing it (default: 0.8)")
    parser.add_argument("--comparisons", type=int, default=1, help="that the verdict pays for (default: 1)")
    parser.add_argument("--sd", type=float, help="assume this standard deviation over trainings")
    parser.add_argument("--metric", help="by this figure of the records, such as mig, elbo or ais "
                        "(default: what their benchmark names, or else log_likelihood)")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench plan`: prints what it takes."""
    from vaebench.leaderboard.plan import planned, plans

    asked = arguments.difference, arguments.power, arguments.comparisons, arguments.sd
    print(planned(plans(arguments.first, arguments.second, arguments.results, arguments.metric, *asked)), end="")
    return 0
