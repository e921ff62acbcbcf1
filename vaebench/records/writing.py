"""Writes records atomically, and only once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.errors import UserError, printable
from vaebench.files import copy_file, whole_folder
from vaebench.records.arrays import IN_ORDER, INDEX, ORDER, PER_IMAGE
from vaebench.records.content import digest_of, malformed, rendered, sha256
from vaebench.records.identities import SCHEMA
from vaebench.records.record import CHECKPOINT, RECORD, RunRecord


def write_record(
    directory: str | Path,
    body: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    pictures: Mapping[str, np.ndarray],
    checkpoint: str | Path | None = None,
    index: np.ndarray | None = None,
) -> RunRecord:
    """Writes a run's directory atomically: complete under another name, then renamed.

    Args:
        directory: the run's directory; must not exist. Its parents are created.
        body: the fields of a `RunRecord` except `schema`, `files` and `digest`, which are added.
        arrays: metrics of every test image, (n,), stored as float32 in `per_image.npz`.
        index: position of each image in the data set's source, (n,), stored as int64.
        pictures: uint8 (h, w, 3) images by name, stored as PNG.
        checkpoint: a file to copy as `model.ckpt`.

    Returns:
        The record, as `read_records` returns it.

    Raises:
        UserError: the directory exists, or a value is not finite.
        ValueError: the body is not that of a `RunRecord`.
    """
    directory = Path(directory)
    with whole_folder(directory) as partial:
        _write_files(partial, arrays, pictures, index)
        sums = {p.name: sha256(p.read_bytes()) for p in sorted(partial.iterdir())}
        if checkpoint is not None:
            copy_file(Path(checkpoint), partial / CHECKPOINT)
        texts = {name: _printed(body[name]) for name in WITH_TEXTS & body.keys()}
        raw = _signed({**body, **texts, "schema": SCHEMA, "files": sums})
        (partial / RECORD).write_bytes(raw)
    return RunRecord(**json.loads(raw), path=directory)


def _write_files(
    directory: Path, arrays: Mapping[str, np.ndarray], pictures: Mapping[str, np.ndarray], index: np.ndarray | None
) -> None:
    from PIL import Image

    figures: dict[str, Any] = {name: np.asarray(arrays[name], dtype=np.float32) for name in sorted(arrays)}
    if index is not None:
        figures |= {INDEX: np.asarray(index, dtype=np.int64), ORDER: np.array(IN_ORDER)}
    np.savez(directory / PER_IMAGE, **figures)  # uncompressed: float noise does not shrink, and zlib builds differ
    for name, pixels in pictures.items():
        picture, grey = Image.fromarray(pixels), (pixels == pixels[..., :1]).all()
        (picture.getchannel(0) if grey else picture).save(directory / f"{name}.png")  # smaller by a third


WITH_TEXTS = {"metrics", "collapse", "tables", "warnings"}  # fields with texts of models and parts, such as reasons


def _printed(value: Any) -> Any:
    """A JSON-able value with printable texts, whatever someone else's model wrote into them."""
    if isinstance(value, Mapping):
        return {name: _printed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printed(item) for item in value]
    return printable(" ".join(value.split())) if isinstance(value, str) and not value.isprintable() else value


def _signed(body: dict[str, Any]) -> bytes:
    """The bytes of `record.json`: the body with its digest."""
    if where := _not_finite(body):
        raise UserError(
            f"the record of '{body.get('variant')}' (seed {body.get('seed')}) holds {where}, where finite figures are "
            "expected; record a figure that diverged as unavailable"
        )
    body["digest"] = digest_of(body)
    raw = rendered(body)
    if wrong := malformed(json.loads(raw)):
        raise ValueError(f"the body {wrong}")
    return raw


def _not_finite(value: Any, where: str = "record") -> str | None:
    if isinstance(value, float):
        return None if np.isfinite(value) else f"{where} = {value}"
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next(filter(None, (_not_finite(item, f"{where}.{key}") for key, item in items)), None)
