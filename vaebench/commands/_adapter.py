"""The options by which a command takes a model from elsewhere in the place of a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.errors import UserError

if TYPE_CHECKING:
    from vaebench.adapters import Foreign
    from vaebench.data.base import ImageData

SETTINGS = "--data."  # of options besides the command's own


def model_options(parser: argparse.ArgumentParser) -> None:
    """Adds the checkpoint, and `--adapter` and `--data` in its place."""
    parser.add_argument("checkpoint", nargs="?", type=Path, help="the model.ckpt of a finished run")
    parser.add_argument("--adapter", metavar="MODEL",
                     help="in its place a model that was trained elsewhere: pythae:FOLDER, multivae:FOLDER[:MODALITY], "
                     "diffusers:FOLDER_OR_ID or FILE.py:FUNCTION, which is run (docs/your-model.md)")  # fmt: skip
    parser.add_argument("--data", metavar="NAME",
                     help="its images, with settings as --data.KEY VALUE: those of `vaebench fit`")  # fmt: skip


def require_checkpoint(arguments: argparse.Namespace, *only_foreign: str) -> None:
    """Raises a UserError unless there is a checkpoint, and no option of a model from elsewhere."""
    for name in ("data", *only_foreign, "settings"):
        if vars(arguments)[name]:
            option = arguments.settings[0] if name == "settings" else f"--{name.replace('_', '-')}"
            raise UserError(
                f"{option} is for a model from elsewhere: expected --adapter beside it; name the model there"
            )
    if arguments.checkpoint is None:
        raise UserError("there is no model: expected a model.ckpt, or --adapter; give one of them")


def foreign_model(arguments: argparse.Namespace) -> tuple[Foreign, ImageData]:
    """The model that `--adapter` names, and its images.

    Raises:
        UserError: there is a checkpoint too, there are no images, or either cannot be opened.
    """
    from vaebench.adapters import open_adapter
    from vaebench.configuration.registered import moved
    from vaebench.running.foreign import chosen_data

    if arguments.checkpoint is not None:
        raise UserError(
            f"there are two models, '{arguments.checkpoint}' and --adapter {arguments.adapter}: expected one; leave "
            "out the other"
        )
    if arguments.data is None:
        raise UserError("--adapter has no images: expected --data; name a data set")
    place = [] if moved() is None else [f"--data.root={moved()}"]
    data = chosen_data([f"--data={arguments.data}", *place, *arguments.settings])
    return open_adapter(arguments.adapter, data.spec), data
