"""`vaebench verify`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.commands._parser import root_option, trust_option
from vaebench.errors import UserError

if TYPE_CHECKING:
    from vaebench.records import RunRecord

HELP = "evaluate a record's checkpoint again, and say whether the record's figures are its own"
EXAMPLE = "vaebench verify results/digits/vae-s0-1ce64477"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("record", help="a record's folder, its record.json, or the start of its id")
    parser.add_argument("--checkpoint", type=Path, help="the run's model.ckpt (default: the one beside the record)")
    parser.add_argument("--adapter", metavar="MODEL",
                        help="the model again, where it was trained elsewhere: as for `vaebench evaluate`")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"),
                        help="folder of records, to find an id in (default: results)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/verified"),
                        help="folder of the new record and of unfinished work (default: runs/verified)")  # fmt: skip
    parser.add_argument("--device", help="where to evaluate: cpu, cuda or cuda:N (default: as the record)")
    root_option(parser)
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench verify`: 0 where every metric agrees, 1 where something is different."""
    from vaebench.records.find import find_record

    record = find_record(arguments.record, arguments.results)
    from vaebench.reproduction.repeat import verify_foreign, verify_record
    from vaebench.reproduction.report import repeat_and_compare
    from vaebench.reproduction.tolerance import SAME_WEIGHTS

    if arguments.adapter and arguments.checkpoint:
        raise UserError("--adapter and --checkpoint are two models: expected one; leave out the other")
    where = {"out": arguments.out, "device": arguments.device}

    def again() -> RunRecord:
        if arguments.adapter:
            return verify_foreign(record, arguments.adapter, **where)
        return verify_record(record, arguments.checkpoint, **where)

    return repeat_and_compare(record, "verify", SAME_WEIGHTS, again)
