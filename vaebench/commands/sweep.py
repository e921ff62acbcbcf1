"""`vaebench sweep`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vaebench.commands._parser import logger_option
from vaebench.errors import UserError, unknown
from vaebench.sweep.spec.engine import engines

HELP = "search a space of settings for the best log p(x) of validation images, with Optuna; goes on with --resume"
EXAMPLE = """\
vaebench sweep digits
vaebench sweep status digits"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="+",
        metavar="[status|report] FILE",
        help="the sweep's YAML file, or the name of one of the suite's (beta)",
    )
    parser.add_argument(
        "--storage", help="sqlite:///FILE or postgresql://USER@HOST/DATABASE (default: SQLite in results)"
    )
    parser.add_argument("--workers", type=int, help="number of workers (default: one a GPU, else one a core)")
    parser.add_argument("--resume", action="store_true", help="go on with a sweep that was started")
    parser.add_argument("--engine", help=f"one of {', '.join(engines())}, in place of the file's")
    logger_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="check the file and show what the engine would start")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder of unfinished runs (default: runs)")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench sweep`: runs a sweep, or prints (`status`) or draws (`report`) where it stands."""
    *action, file = arguments.file
    if action not in ([], ["status"], ["report"]):
        raise unknown("action", " ".join(action), ["status", "report"], "`vaebench sweep --help` shows an example.")
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}: expected at least 1; leave it out for one a device")
    from vaebench.sweep import driver

    place = (Path(file), arguments.results)
    if action == ["status"]:
        driver.status(*place, arguments.storage)
    elif action == ["report"]:
        print(driver.report(*place, arguments.storage))
    else:
        where = (arguments.work, arguments.storage, arguments.workers)
        if arguments.dry_run:
            print(driver.dry_run(*place, *where, arguments.engine, arguments.logger))
        else:
            print(driver.run_sweep(*place, *where, arguments.resume, arguments.engine, arguments.logger))
    return 0
