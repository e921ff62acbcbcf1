"""`vaebench explore`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vaebench.commands._adapter import SETTINGS as SETTINGS
from vaebench.commands._adapter import foreign_model, model_options, require_checkpoint
from vaebench.commands._parser import root_option, trust_option

HELP = "write a page with a slider for each active unit of a model, which decodes in the browser, and traversals"
EXAMPLE = "vaebench explore runs/digits-beta_vae-s0-180ab1ac/model.ckpt --out explorer"


def arguments(parser: argparse.ArgumentParser) -> None:
    model_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="the page's folder; must not exist")
    root_option(parser)
    trust_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """`vaebench explore`: writes the page and names it."""
    from vaebench.running.explore import explore, explore_foreign

    if arguments.adapter is None:
        require_checkpoint(arguments)
        reason = explore(arguments.checkpoint, arguments.out)
    else:
        reason = explore_foreign(*foreign_model(arguments), arguments.out)
    print(arguments.out / "index.html")
    if reason is not None:
        print(f"vaebench: the page shows frames in place of decoding: {reason}", file=sys.stderr)
    return 0
