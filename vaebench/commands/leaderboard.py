"""`vaebench leaderboard`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "print the leaderboard of a folder of records, and draw its page"
EXAMPLE = "vaebench leaderboard results --html leaderboard.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder of records")
    parser.add_argument("--html", type=Path, help="write the page to this file")
    parser.add_argument("--wandb", metavar="ENTITY/PROJECT", help="make or renew the report of this W&B project")
    parser.add_argument("--metric", help="rank by this figure of the records, such as mig, elbo, ais or fid_mnist28 "
                        "(default: what a benchmark names, or else log_likelihood)")  # fmt: skip
    parser.add_argument("--trials", action="store_true", help="rank trials of sweeps among the other runs")
    parser.add_argument("--budget", choices=["parameters", "flops", "seconds", "trials"],
                        help="print who is best at equal cost, in place of the boards")  # fmt: skip
    parser.add_argument("--judgements", type=Path, help="add columns of what people said: a file of `vaebench judge`")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench leaderboard`: prints the tables as Markdown and names the page."""
    from vaebench.leaderboard import LEFT_OUT, presented, ranked

    records, boards = ranked(arguments.results, arguments.metric, arguments.judgements, arguments.trials)
    text = presented(records, boards, arguments.html, arguments.budget)
    print(text)
    if arguments.html:
        print(f"\nPage: {arguments.html.resolve()}")
    if arguments.wandb:
        from vaebench.loggers.report import write_wandb_report

        print(f"\nReport: {write_wandb_report(arguments.wandb, boards, records.damaged)}")
    for line in text.splitlines():  # last and apart, so that neither a long table nor a redirection hides it
        if line.startswith(LEFT_OUT):
            print(f"vaebench: left out, damaged: {line.removeprefix(LEFT_OUT)}", file=sys.stderr)
    return 0
