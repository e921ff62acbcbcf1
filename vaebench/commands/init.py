"""`vaebench init`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a small project: a family, a data set, a benchmark and a sweep of your own, that run as they stand"
EXAMPLE = "vaebench init mine"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="of the project (default: this one)")


def run(arguments: argparse.Namespace) -> int:
    """`vaebench init`: writes the files and says what to do with them; those that are there stay."""
    from vaebench.configuration.parts import PACKAGE
    from vaebench.errors import UserError
    from vaebench.files import write_atomically

    folder, files = arguments.folder, sorted(path for path in (PACKAGE / "project").iterdir() if path.is_file())
    if there := [path.name for path in files if (folder / path.name).exists()]:
        raise UserError(f"'{folder / there[0]}' is there already: expected a folder without it; give another folder")
    for path in files:
        write_atomically(folder / path.name, path.read_bytes())
        print(folder / path.name)
    place = f"cd {folder} && " if folder != Path() else ""
    print(f"try it:  {place}vaebench fit --config my_data.yaml --config my_vae.yaml --trainer.max_epochs 5")
    return 0
