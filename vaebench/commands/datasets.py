"""`vaebench datasets`."""

from __future__ import annotations

import argparse

HELP = "list the data sets"
EXAMPLE = "vaebench datasets"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_: argparse.Namespace) -> int:
    """`vaebench datasets`: name and what it is."""
    from vaebench.commands._tables import parts_table
    from vaebench.configuration.parts import of_kind

    parts_table(of_kind("data set").values())
    return 0
