"""Models from elsewhere as models that can be evaluated: of pythae, MultiVae, diffusers, or of any code.

    --adapter pythae:FOLDER | multivae:FOLDER[:MODALITY] | diffusers:FOLDER_OR_ID | FILE.py:FUNCTION

Folders are read as data: settings in JSON, weights as plain tensors; nothing in them is unpickled, and no name in them
is imported. A function runs, for the user has named it.
"""

from __future__ import annotations

from pathlib import Path

from vaebench.adapters import built, diffusers, multivae, pythae
from vaebench.adapters.built import as_model
from vaebench.adapters.foreign import Foreign
from vaebench.adapters.parts import Autoencoder, Parts, Point, gaussian, of_logits, of_probabilities
from vaebench.errors import UserError
from vaebench.measures import DataSpec

__all__ = [
    "Autoencoder",
    "Foreign",
    "Parts",
    "Point",
    "as_model",
    "gaussian",
    "of_logits",
    "of_probabilities",
    "open_adapter",
]

FOLDERS = {"pythae": pythae.open_folder, "diffusers": diffusers.open_folder}


def open_adapter(text: str, spec: DataSpec) -> Foreign:
    """The model that `--adapter` names, for images of a shape and measure, on the CPU.

    Raises:
        UserError: there is no such folder or function, or it gives no model of these images.
    """
    kind, _, rest = text.partition(":")
    if kind == "multivae":
        place, _, modality = rest.partition(":")
        return multivae.open_folder(_folder(place), spec, modality)
    if kind == "diffusers" and not Path(rest).expanduser().is_dir() and (found := diffusers.cached(rest)):
        return diffusers.open_folder(found, spec)
    if kind in FOLDERS:
        return FOLDERS[kind](_folder(rest), spec)
    return built.build(text, spec)


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not text or not path.is_dir():
        raise UserError(
            f"'{text}' is no folder here: expected that of a saved model, which is not downloaded (`hf download "
            "OWNER/NAME` puts one of diffusers' where it is found by that name); mend its path"
        )
    return path
