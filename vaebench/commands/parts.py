"""`vaebench parts`."""

from __future__ import annotations

import argparse

from vaebench.configuration.parts import of_kind
from vaebench.errors import unknown

HELP = "list the parts of models: posteriors, priors, likelihoods, networks, schedules, optimisers"
EXAMPLE = """\
vaebench parts prior
vaebench fit --data digits --model vae --model.prior vamp"""
KINDS = ("posterior", "prior", "likelihood", "pixels", "network", "schedule", "optimizer", "lr_scheduler")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench parts`: every part's name, other names it has, what it is and where it comes from."""
    from vaebench.commands._tables import parts_table

    wanted = arguments.kind
    kinds = [kind for kind in KINDS if wanted is None or wanted.lower().removesuffix("s") == kind.removesuffix("s")]
    if not kinds:
        raise unknown("kind of part", wanted, KINDS, "`vaebench families` and `vaebench datasets` list those.")
    for kind in kinds:
        parts_table(of_kind(kind).values(), kind)
    return 0
