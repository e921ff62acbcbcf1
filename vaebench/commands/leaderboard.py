"""`vaebench leaderboard`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "print the leaderboard of a folder of records, and draw its page"
EXAMPLE = "vaebench leaderboard results --html leaderboard.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="folder of records")
    parser.add_argument("--html", type=Path, help="write the page to this file, its pictures to a folder beside it")
    parser.add_argument("--single-file", action="store_true", help="write the pictures into the page itself")
    parser.add_argument("--format", choices=["table", "markdown", "latex", "csv", "json", "bibtex"],
                        help="print this (default: a table in a terminal, and else Markdown)")  # fmt: skip
    parser.add_argument("--wandb", metavar="ENTITY/PROJECT", help="make or renew the report of this W&B project")
    parser.add_argument("--metric", help="rank by this figure of the records, such as mig, elbo, ais or fid_mnist28 "
                        "(default: what a benchmark names, or else log_likelihood)")  # fmt: skip
    parser.add_argument("--trials", action="store_true", help="rank trials of sweeps among the other runs")
    parser.add_argument("--budget", choices=["parameters", "flops", "seconds", "steps", "trials"],
                        help="print who is best at equal cost, in place of the boards")  # fmt: skip
    parser.add_argument("--judgements", type=Path, help="add columns of what people said: a file of `vaebench judge`")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench leaderboard`: prints the tables and names the page."""
    from vaebench.commands._boards import print_boards
    from vaebench.leaderboard import LEFT_OUT, presented, ranked, without

    records, boards = ranked(arguments.results, arguments.metric, arguments.judgements, arguments.trials)
    text = presented(records, boards, arguments.html, arguments.budget, arguments.single_file)
    plain = arguments.format in (None, "table", "markdown")  # others are read by programs, which want nothing beside
    terminal = arguments.format == "table" or (arguments.format is None and sys.stdout.isatty())
    if terminal and arguments.budget is None:
        print_boards(boards, without(records, boards))
    elif plain or arguments.budget is not None:
        print(text)
    else:
        from vaebench.leaderboard.formats import FORMATS

        print(FORMATS[arguments.format](boards), end="")
    if arguments.html:
        print(f"\nPage: {arguments.html.resolve()}", file=sys.stdout if plain else sys.stderr)
    if arguments.wandb:
        from vaebench.loggers.report import write_wandb_report

        print(f"\nReport: {write_wandb_report(arguments.wandb, boards, records.damaged)}")
    for line in text.splitlines():  # last and apart, so that neither a long table nor a redirection hides it
        if line.startswith(LEFT_OUT):
            print(f"vaebench: left out, damaged: {line.removeprefix(LEFT_OUT)}", file=sys.stderr)
    return 0
