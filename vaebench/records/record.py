"""Run records: one directory a run, written once, checked at every reading; all that the leaderboard knows of a run.

    <run>/record.json       what was run, how it was measured, what came out (`RunRecord`)
    <run>/per_image.npz     the figures of every test image, float32 (n,), in the order of the test split, and
                            `index` int64, where each stands in the data set's source (older records lack it)
    <run>/*.png             pictures
    <run>/model.ckpt        the checkpoint; may be absent, the record keeps the hash of its weights

`record.json` carries a SHA-256 of every other file but the checkpoint, and a digest of itself. What is found out about
a run later stands in files of its own beside the record: see `vaebench.records.claims`.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaebench.errors import UNREADABLE, UserError, printable
from vaebench.files import PARTIAL, copy_file, hash_file, is_plain, open_file, read_file, whole_folder
from vaebench.records import fields
from vaebench.records.fields import fault
from vaebench.records.identities import SCHEMA, canonical
from vaebench.records.selection import Selection, parsed

OLDER: dict[int, dict[str, Any]] = {1: {"tables": {}, "warnings": []}, 2: {}}  # what a record of an older schema lacks
RECORD, PER_IMAGE, CHECKPOINT = "record.json", "per_image.npz", "model.ckpt"
INDEX, ORDER = "index", "order"  # arrays of `per_image.npz` that are no figures
IN_ORDER = "row i is image i of the test split, which is image index[i] of the data set's source, from 0"
LONGEST = 2**26  # bytes of a record.json; those of many measurements have 2**17
LARGEST = 2**28  # bytes that the numbers of every image may unpack to


@dataclass(frozen=True)
class RunRecord:
    """What one run was and what it measured; the fields are the keys of `record.json`, `path` is where it was read."""

    id: str  # 16 hex digits, the hash of all that determines the result: `identity`
    family: str
    variant: str  # the setting of the family that the leaderboard shows
    benchmark: str | None
    seed: int
    config: dict[str, Any]  # {"model", "data", "trainer"}
    data: dict[str, Any]  # {"name", "measure", "shape", "sizes", "hashes": {split: SHA-256}}
    surrogate: bool  # the likelihood is not normalised for the data's measure
    started_at_mean: bool  # the likelihood's output started at the data's mean
    selection: str  # which weights were measured, and why those: `measured` reads it
    protocol: dict[str, Any]  # how it was measured: {"k", "n", "split", "version", ...}
    metrics: dict[str, Any]  # {name: {"value", "se", "unit", "n", "definition", ...} or {"unavailable": reason, ...}}
    units: dict[str, Any]  # figures of every latent unit
    collapse: dict[str, Any]  # the verdict and what it rests on
    tables: dict[str, Any]  # curves and matrices that the evaluation found, by name
    warnings: list[Any]  # sentences that a reader of the figures must know
    curves: dict[str, Any]  # {name: {"step": [...], "value": [...]}}
    cost: dict[str, Any]  # {"parameters", "flops_per_image", "device", "threads"}
    times: dict[str, Any]  # all that depends on the clock
    environment: dict[str, Any]  # versions and commit
    checkpoint: dict[str, Any] | None = None  # {"file", "weights": SHA-256}
    files: dict[str, Any] = field(default_factory=dict)  # SHA-256 of every other file but the checkpoint
    digest: str = ""  # SHA-256 of everything else in the record
    schema: int = SCHEMA
    path: Path | None = field(default=None, compare=False, repr=False)

    @property
    def measured(self) -> Selection | None:
        """Which weights were measured; None where an old record does not say at which step they stood."""
        return parsed(self.selection)

    def held_out(self, curve: str) -> float | None:
        """The value of a curve such as 'val/elbo' at the step that was measured; None where it has none there."""
        points = self.curves.get(curve, {"step": [], "value": []})
        at = dict(zip(points["step"], points["value"], strict=False))
        return at.get(self.measured.step) if self.measured else None

    def value(self, metric: str) -> float | None:
        """The value of a metric in its unit; None where it is unavailable."""
        return self.metrics.get(metric, {}).get("value")

    def error(self, metric: str) -> float | None:
        """Standard error of a metric over the test images; None where it has none."""
        return self.metrics.get(metric, {}).get("se")

    def reason(self, metric: str) -> str:
        """Why a metric is unavailable."""
        return str(self.metrics.get(metric, {}).get("unavailable") or "not measured")

    def per_image(self) -> dict[str, np.ndarray]:
        """The figures of every test image, float32 (n,), read when needed.

        Raises:
            UserError: the record was never written, or its file is gone.
        """
        return {name: array for name, array in self._arrays().items() if array.dtype.kind == "f"}

    def index(self) -> np.ndarray | None:
        """Where each of these images stands in the data set's source, int64 (n,); None in records without it.

        Raises:
            UserError: as `per_image`.
        """
        return self._arrays().get(INDEX)

    def _arrays(self) -> dict[str, np.ndarray]:
        if self.path is None or not (self.path / PER_IMAGE).is_file():
            raise UserError(f"record {self.id} has no {PER_IMAGE} beside it; read it again with vb.read_records")
        try:
            return read_arrays(self.path)
        except BAD_ARRAYS as error:
            raise UserError(
                f"'{self.path}/{PER_IMAGE}' cannot be read ({error}): expected numbers of every image; restore it or "
                "run it again"
            ) from error

    def open(self, name: str) -> BinaryIO:
        """One of the record's files, opened for reading.

        Raises:
            OSError: it is not there, or is no ordinary file of a plain name.
        """
        return open_file(self.path or Path(), name)

    def pictures(self) -> dict[str, Path]:
        """The PNG files of the run by name; `open` reads them."""
        return {Path(name).stem: Path(self.path or "", name) for name in sorted(self.files) if name.endswith(".png")}


@dataclass(frozen=True)
class Damage:
    """A record that cannot be trusted: its directory, and what is wrong with it and how to mend it."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Records(tuple[RunRecord, ...]):
    """The sound records below the directory `root`, sorted by path, and the damaged ones, named and left out."""

    root: Path
    damaged: tuple[Damage, ...]


def stable(record: RunRecord) -> dict[str, Any]:
    """The record without times and the digest over them: what two runs of the same seed have in common."""
    return {name: value for name, value in asdict(record).items() if name not in ("times", "digest", "path")}


# Writing ----------------------------------------------------------------------------------------------------------


def write_record(
    directory: str | Path,
    body: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    pictures: Mapping[str, np.ndarray],
    checkpoint: str | Path | None = None,
    index: np.ndarray | None = None,
) -> RunRecord:
    """Writes a run's directory at once: complete under another name first, then renamed, and never again.

    Args:
        directory: the run's directory; must not exist. Its parents are made.
        body: the fields of a `RunRecord`; `schema`, `files` and `digest` are filled in here.
        arrays: figures of every test image, (n,), stored as float32 in `per_image.npz`.
        index: where each image stands in the data set's source, (n,), stored as int64 with a sentence that says so.
        pictures: uint8 (h, w, 3) images by name, stored as PNG.
        checkpoint: a file to copy in as `model.ckpt`.

    Returns:
        The record as `read_records` will give it.

    Raises:
        UserError: the directory exists, or a figure is not finite and so cannot be recorded.
        ValueError: the body is not that of a `RunRecord`.
    """
    directory = Path(directory)
    with whole_folder(directory) as partial:
        _write_files(partial, arrays, pictures, index)
        sums = {p.name: _sha256(p.read_bytes()) for p in sorted(partial.iterdir())}
        if checkpoint is not None:
            copy_file(Path(checkpoint), partial / CHECKPOINT)
        found = {name: _printed(body[name]) for name in FOUND & body.keys()}
        raw = _signed({**body, **found, "schema": SCHEMA, "files": sums})
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
        Image.fromarray(pixels).save(directory / f"{name}.png")


FOUND = {"metrics", "collapse", "tables", "warnings"}  # fields with texts of models and parts, such as reasons


def _printed(value: Any) -> Any:
    """A JSON-able value whose texts can be printed, whatever a model of someone else's wrote into them."""
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
    body["digest"] = _digest(body)
    raw = _render(body)
    if wrong := _malformed(json.loads(raw)):
        raise ValueError(f"the body {wrong}")
    return raw


def _not_finite(value: Any, where: str = "record") -> str | None:
    if isinstance(value, float):
        return None if np.isfinite(value) else f"{where} = {value}"
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next(filter(None, (_not_finite(item, f"{where}.{key}") for key, item in items)), None)


def _render(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _digest(body: Mapping[str, Any]) -> str:
    return _sha256(canonical({name: value for name, value in body.items() if name != "digest"}))


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


# Reading ----------------------------------------------------------------------------------------------------------


def read_records(path: str | Path) -> Records:
    """Every record below a directory, checked against its digest and its files' checksums.

    Raises:
        UserError: the directory does not exist, or holds no record at all, not even a damaged one.
    """
    root = Path(path)
    remedy = "pass a directory with the records that `vaebench bench` or `vaebench evaluate` wrote"
    if not root.is_dir():
        raise UserError(f"no directory '{root}' to read records from; {remedy}")
    damaged: list[Damage] = []
    found = [_read(directory) for directory in _directories(root, damaged)]
    records = Records(record for record in found if isinstance(record, RunRecord))
    records.root = root
    records.damaged = (*damaged, *(damage for damage in found if isinstance(damage, Damage)))
    if not records and not records.damaged:
        raise UserError(f"no {RECORD} anywhere below '{root}'; {remedy}")
    return records


def read_record(directory: Path) -> RunRecord:
    """The record in one folder.

    Raises:
        UserError: it is damaged.
    """
    found = _read(directory)
    if isinstance(found, Damage):
        raise UserError(str(found))
    return found


def _directories(root: Path, damaged: list[Damage]) -> Iterator[Path]:
    """Directories that hold a run or what is left of one, sorted; those that cannot be listed are damage."""

    def unreadable(error: OSError) -> None:
        damaged.append(Damage(Path(error.filename), f"cannot be listed ({error.strerror}); mend its permissions"))

    for directory, below, files in os.walk(root, onerror=unreadable):
        below.sort()
        if directory.endswith(PARTIAL) or RECORD in files or PER_IMAGE in files:
            yield Path(directory)


def _read(directory: Path) -> RunRecord | Damage:
    """The record of one run, or what is missing, altered or of another schema in it."""
    again = "restore it or run it again"
    if directory.name.endswith(PARTIAL):
        return Damage(directory, "was never finished: its writer was killed or is at work; delete it if no run is")
    try:
        raw = read_file(directory, RECORD, LONGEST)
        body = json.loads(raw)
        schema = body.get("schema") if isinstance(body, dict) else None
        if type(schema) is not int or (schema != SCHEMA and schema not in OLDER):
            return Damage(directory, f"{RECORD} has schema {schema!r:.60}, not {SCHEMA}; update vaebench or {again}")
        intact = body.get("digest") == _digest(body) and _render(body) == raw
        body = {**OLDER.get(schema, {}), **body}
    except (OSError, ValueError, RecursionError) as error:
        return Damage(directory, f"{RECORD} cannot be read ({error}); {again}")
    if wrong := _malformed(body) if intact else "is not what was written: its digest does not match":
        return Damage(directory, f"{RECORD} {wrong}; {again}")
    for name, checksum in body["files"].items():
        try:
            found = hash_file(directory, name)
        except OSError as error:
            return Damage(directory, f"{name} cannot be read ({error.strerror}); {again}")
        if found != checksum:
            return Damage(directory, f"{name} is not what was written: its SHA-256 does not match; {again}")
        if name == PER_IMAGE and (wrong := _misshapen(directory)):
            return Damage(directory, f"{name} {wrong}; {again}")
    return RunRecord(**body, path=directory)


def _malformed(body: Mapping[str, Any]) -> str | None:
    """What keeps a body from being that of a `RunRecord`."""
    if found := fault(body, fields.RECORD):
        return found
    for name in body["files"]:
        if name != PER_IMAGE and not (is_plain(name) and name.endswith(".png")):
            return f"lists {name!r} among its files, which are {PER_IMAGE} and pictures (NAME.png)"
    if len({name.casefold() for name in body["files"]}) < len(body["files"]):
        return "lists files whose names are one to some file systems"
    return fields.uneven(body["curves"])


BAD_ARRAYS = (*UNREADABLE, zipfile.BadZipFile, MemoryError)


def read_arrays(directory: Path) -> dict[str, np.ndarray]:
    """The numbers of every image of the record in a folder, which may be a stranger's.

    Raises:
        BAD_ARRAYS: there are none, or they unpack to more than `LARGEST` bytes.
    """
    with open_file(directory, PER_IMAGE) as file, zipfile.ZipFile(file) as members:
        if (size := sum(member.file_size for member in members.infolist())) > LARGEST:
            raise ValueError(f"it unpacks to {size:,} bytes")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)


_TYPES: dict[str, Any] = {INDEX: np.integer, ORDER: np.str_}


def _misshapen(directory: Path) -> str | None:
    """What keeps a file from being figures of images, (n,), their index and their order."""
    try:
        arrays = read_arrays(directory)
    except BAD_ARRAYS:
        return "holds no arrays"
    odd = [
        name
        for name, array in arrays.items()
        if not np.issubdtype(array.dtype, _TYPES.get(name, np.floating)) or array.ndim != (name != ORDER)
    ]
    if odd:
        return f"holds '{printable(odd[0])}', which is of another type or shape"
    large = [name for name, array in arrays.items() if array.dtype.kind == "f" and _beyond(array)]
    return f"holds a number beyond {fields.LARGEST:g} in '{printable(large[0])}'" if large else None


def _beyond(array: np.ndarray) -> bool:
    """Whether numbers have squares that cannot be summed; those that are not finite are no figures anyway."""
    return array.dtype.itemsize > 4 and bool(np.any(np.abs(array[np.isfinite(array)]) > fields.LARGEST))
