"""`vaebench datasets`."""

from __future__ import annotations

import argparse

HELP = "list the data sets"
EXAMPLE = "vaebench datasets"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_: argparse.Namespace) -> int:
    """`vaebench datasets`: name, class and what it is."""
    from vaebench.discovery import datasets as found
    from vaebench.tables import classes_table

    classes_table(found())
    return 0
