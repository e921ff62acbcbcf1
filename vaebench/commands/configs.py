"""`vaebench configs`."""

from __future__ import annotations

import argparse

HELP = "list the configurations, benchmarks and sweeps that come with the suite, or print one"
EXAMPLE = """\
vaebench configs
vaebench configs family/vamp_vae"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a file to print, or of a folder to list")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench configs`: every name with what the file says of itself, or the file as it is."""
    from vaebench.commands._tables import files_table
    from vaebench.configuration.shipped import SEARCHED, find_shipped, shipped
    from vaebench.errors import unknown

    files = {name.removeprefix("configs/"): path for name, path in shipped().items()}
    wanted = (arguments.name or "").removesuffix("/").removeprefix("configs/")
    listed = {name: path for name, path in files.items() if not wanted or name.startswith(f"{wanted}/")}
    if listed:
        files_table(listed)
        return 0
    if (path := next(filter(None, (find_shipped(wanted, kind) for kind in SEARCHED)), None)) is None:
        raise unknown("configuration file", wanted, files, "`vaebench configs` lists them.")
    print(path.read_text(encoding="utf-8"), end="")
    return 0
