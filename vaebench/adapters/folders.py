"""Folders of models from elsewhere: settings in JSON and weights as plain tensors. Nothing in them is unpickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaebench.errors import UNREADABLE, UserError, extra

LARGEST = 2**20  # bytes of a file of settings
OWN = "write a function that builds the model, and give --adapter FILE.py:FUNCTION (docs/your-model.md)"


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """The settings in a folder's JSON file.

    Raises:
        UserError: there is no such folder or file, or it is no JSON table.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(f"'{folder}' has no {name}: expected the folder of a saved model; mend its path")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too long")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' is no JSON file of settings ({error}); put an intact copy in its place") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no table of settings; put an intact copy in its place")
    return content


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of one of torch's whose content is tensors and containers alone.

    Raises:
        UserError: there is no such file, it is damaged, or it holds other objects, which are not unpickled.
    """
    if not path.is_file():
        raise UserError(f"'{path}' is not there: expected the weights of a saved model; mend its folder")
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as members:
                if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
                    raise ValueError("torch packs nothing: what is packed may unpack to more than there is room for")
        content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("model_state_dict", content)
        if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
            raise TypeError("more than tensors")
    except UserError:
        raise
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        raise UserError(
            f"'{path}' holds no plain weights, or is damaged: expected tensors by their names, for nothing else is "
            "unpickled; save the model's state_dict"
        ) from error
    return dict(content)


def _safetensors(path: Path) -> dict[str, Tensor]:
    with extra("safetensors", f"'{path}'"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Gives a network its weights.

    Raises:
        UserError: they are of another network.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"'{path}' does not fit the network that its settings describe ({reason}); {OWN}") from error


def numbers(folder: Path, settings: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """A setting that is a list of whole numbers of at least 1, or one of them.

    Raises:
        UserError: it is not.
    """
    value = settings.get(name)
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(type(one) is int and 0 < one < 2**31 for one in listed):
        raise UserError(f"'{folder}' has {name} {value!r}: expected whole numbers of at least 1; mend its settings")
    return tuple(listed)


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a record, without what says where files were."""
    return {key: value for key, value in settings.items() if key[:1] != "_" and key != "name" and value is not None}
