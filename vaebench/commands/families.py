"""`vaebench families`."""

from __future__ import annotations

import argparse

HELP = "list the families"
EXAMPLE = "vaebench families"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_: argparse.Namespace) -> int:
    """`vaebench families`: name, what it maximises and where it comes from."""
    from vaebench.commands._tables import parts_table
    from vaebench.configuration.parts import of_kind

    parts_table(of_kind("family").values())
    return 0
