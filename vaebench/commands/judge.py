"""`vaebench judge`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from vaebench.errors import UserError, extra

HELP = "ask people about pictures of runs: which is better, how good, real or generated"
EXAMPLE = """\
vaebench judge results/digits/vae-s0-1ce64477 results/digits/iwae-s0-27ccc9bf --judgements digits.sqlite
vaebench leaderboard results --judgements digits.sqlite"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", nargs="*", metavar="RECORD",
                        help="records' folders, or the starts of their ids; none: go on with the file's")  # fmt: skip
    parser.add_argument("--judgements", type=Path, default=Path("judgements.sqlite"),
                        help="file of the study and its answers (default: judgements.sqlite)")  # fmt: skip
    parser.add_argument("--show", choices=["samples", "reconstructions"], default="samples",
                        help="what is judged (default: samples)")  # fmt: skip
    parser.add_argument("--questions", nargs="+", choices=["choice", "rating", "real"], default=["choice", "rating"],
                        help="choice: which of two; rating: from 1 to 5; real: real or generated (default: choice "
                        "rating)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=4,
                        help="how often each judge meets every pair and run; even: every pair as often on either side "
                        "(default: 4)")  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--host", default="127.0.0.1",
                        help="where to listen; 0.0.0.0: for others too (default: 127.0.0.1)")  # fmt: skip
    parser.add_argument("--port", type=int, default=8780, help="of the page; 0: any that is free (default: 8780)")
    parser.add_argument("--name", action="append", default=[], metavar="HOST",
                        help="a further host name of the page, such as a proxy's; may be repeated")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """`vaebench judge`: serves the page until it is interrupted."""
    if arguments.rounds < 1:
        raise UserError(f"--rounds is {arguments.rounds}: expected at least 1; 4 is usual")
    if wrong := [name for name in arguments.name if not re.fullmatch(r"[A-Za-z0-9._-]+", name)]:
        raise UserError(f"--name is '{wrong[0]}': expected a host name without scheme, port or path, as judges.example")
    with extra("judge", "the page"):
        from vaebench.judging.serve import serve
    return serve(**{name: value for name, value in vars(arguments).items() if name != "run"})
