"""`vaebench check`."""

from __future__ import annotations

import argparse

HELP = "try a family of your own: the laws that it has to fulfil, and which of them hold"
EXAMPLE = "vaebench check vae --data digits"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", help="its name, or its class path, such as my_vae.MyVAE")
    parser.add_argument(
        "--data", default="digits", metavar="NAME", help="the data set it is tried on (default: digits)"
    )


def run(arguments: argparse.Namespace) -> int:
    """`vaebench check`: prints each law and what came of it; 1 where one does not hold."""
    from vaebench.configuration.discovery import find_class
    from vaebench.running.check import check_family

    data = find_class("data set", arguments.data)()
    broken = 0
    for law in check_family(arguments.family, data, arguments.data):
        broken += bool(law.fault)
        print(f"fails  {law.says}: {law.fault}" if law.fault else f"holds  {law.says}", flush=True)
    return 1 if broken else 0
