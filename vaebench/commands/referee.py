"""`vaebench referee`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure the weights of submitted cards again, and say which of their claims hold"
EXAMPLE = "vaebench referee cards/vae"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cards", type=Path, nargs="+", help="folders of cards")
    parser.add_argument("--results", type=Path, help="take cards that pass into this folder of records")
    parser.add_argument("--report", type=Path, help="write the report to this file, as Markdown")
    parser.add_argument("--out", type=Path, default=Path("runs/refereed"),
                        help="folder of the new records and of unfinished work (default: runs/refereed)")  # fmt: skip
    parser.add_argument("--device", help="where to evaluate: cpu, cuda or cuda:N (default: as each record)")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench referee`: 0 where nothing false was found, claims included; 1 where a card is different or refused."""
    from vaebench.files import write_atomically
    from vaebench.publishing.referee import judge_cards, report, show

    verdicts = judge_cards(arguments.cards, arguments.out, arguments.results, arguments.device)
    show(verdicts)
    if arguments.report:
        write_atomically(arguments.report, report(verdicts).encode())
    return 0 if all(verdict.passes for verdict in verdicts) else 1
