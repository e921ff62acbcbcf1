"""`vaebench submit`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "check a card and prepare the files of a pull request that brings it to a board"
EXAMPLE = "vaebench submit cards/vae --out submission"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("card", type=Path, help="the card's folder, or its card.json")
    parser.add_argument("--out", type=Path, default=Path("submission"),
                        help="the folder of the files; must not exist (default: submission)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """`vaebench submit`: writes the files, and says what a referee checks and what to do with them."""
    from vaebench.publishing.submission import FOLDER, large_files, prepare

    made = prepare(arguments.card, arguments.out)
    print("A referee will check:")
    for check in made.checks:
        print(f"  - {check}")
    for sentence in large_files(made):
        print(f"  - {sentence}.")
    print(f"\n{made.card}\n{made.request}\n\nIn a clone of the board's repository, on a branch of yours:\n"
          f"  cp -r {made.folder / FOLDER} .\n  git add --force {FOLDER}/{made.card.name}    # whatever it ignores\n"
          f"  git commit, push, and open a request with the text of {made.request.name}")  # fmt: skip
    return 0
