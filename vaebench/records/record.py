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

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaebench.errors import UserError
from vaebench.files import open_file
from vaebench.records.arrays import BAD_ARRAYS, INDEX, PER_IMAGE, read_arrays
from vaebench.records.identities import SCHEMA
from vaebench.records.selection import Selection, parsed

RECORD, CHECKPOINT = "record.json", "model.ckpt"


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


# Reading ----------------------------------------------------------------------------------------------------------
