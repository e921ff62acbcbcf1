"""`vaebench reproduce`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import root_option, trust_option

HELP = "train and evaluate a record again, and say what agrees and what differs"
EXAMPLE = "vaebench reproduce results/digits/vae-s0-1ce64477"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("record", help="a record's folder, its record.json, or the start of its id")
    parser.add_argument("--results", type=Path, default=Path("results"),
                        help="folder of records, to find an id in (default: results)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/reproduced"),
                        help="folder of the new record and of unfinished work (default: runs/reproduced)")  # fmt: skip
    parser.add_argument("--device", help="where to evaluate: cpu, cuda or cuda:N (default: as the record)")
    root_option(parser)
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench reproduce`: 0 where every metric agrees, 1 where something is different."""
    from vaebench.records.find import find_record

    record = find_record(arguments.record, arguments.results)
    from vaebench.reproduction.repeat import reproduce_record
    from vaebench.reproduction.report import repeat_and_compare
    from vaebench.reproduction.tolerance import TRAINED_AGAIN

    where = {"out": arguments.out, "device": arguments.device}
    return repeat_and_compare(record, "reproduce", TRAINED_AGAIN, lambda: reproduce_record(record, **where))
