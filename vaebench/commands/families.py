"""`vaebench families`."""

from __future__ import annotations

import argparse

HELP = "list the families"
EXAMPLE = "vaebench families"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_: argparse.Namespace) -> int:
    """`vaebench families`: name, class, what it maximises and where it comes from."""
    from vaebench.discovery import families as found
    from vaebench.tables import classes_table

    classes_table(found())
    return 0
