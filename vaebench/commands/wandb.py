"""`vaebench wandb`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import trust_option
from vaebench.errors import unknown

HELP = "bring records to Weights & Biases (push) and back (pull)"
EXAMPLE = """\
vaebench wandb pull me/vaes --results results
vaebench wandb push me/vaes --results results"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="pull|push", help="pull: runs become records; push: records become runs")
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="the project of Weights & Biases")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--checkpoints", action="store_true", help="pull: fetch the models too")
    parser.add_argument("--own", action="store_true", help="pull: take the records as measured here, not as claims")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="push: folder of W&B's files (default: runs)")
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench wandb`: says what became of each run or record; 1 where one was left out."""
    if arguments.action not in ("pull", "push"):
        raise unknown("action", arguments.action, ["pull", "push"], "`vaebench wandb --help` shows an example.")
    from vaebench.loggers.transfer import pull, push

    complete = True
    if arguments.action == "push":
        for record, logged in push(arguments.results, arguments.project, arguments.work):
            complete = complete and logged
            print(f"{record.variant} seed {record.seed}: {'logged' if logged else 'not logged'}", flush=True)
        return 0 if complete else 1
    for pulled in pull(arguments.project, arguments.results, arguments.checkpoints, arguments.own):
        if pulled.directory is None:
            complete = complete and not pulled.recorded
            print(f"{pulled.run}: left out, {pulled.reason}", flush=True)
        else:
            print(f"{pulled.run}: {pulled.directory}{'' if pulled.new else ' (there already)'}", flush=True)
    return 0 if complete else 1
