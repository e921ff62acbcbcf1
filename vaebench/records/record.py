"""Run records: one directory per run, written once and checked at every reading; the leaderboard's only input.

    <run>/record.json       configuration, protocol and results (`RunRecord`)
    <run>/per_image.npz     metrics of every test image, float32 (n,), in the order of the test split, and
                            `index` int64, its position in the data set's source (missing in older records)
    <run>/*.png             pictures
    <run>/model.ckpt        the checkpoint; may be absent, the record keeps the hash of its weights

`record.json` holds a SHA-256 of every other file except the checkpoint, and a digest of itself. Later findings about a
run are in separate files beside the record; see `vaebench.records.claims`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaebench.display.tables import frame, html_table, metrics_html
from vaebench.errors import UserError
from vaebench.files import open_file
from vaebench.records.arrays import BAD_ARRAYS, INDEX, PER_IMAGE, read_arrays
from vaebench.records.identities import SCHEMA
from vaebench.records.selection import Selection, parsed

RECORD, CHECKPOINT = "record.json", "model.ckpt"


@dataclass(frozen=True)
class RunRecord:
    """One run and its results; the fields are the keys of `record.json`, and `path` is its directory."""

    id: str  # 16 hex digits, the hash of everything that determines the result: `identity`
    family: str
    variant: str  # name of the setting on the leaderboard
    benchmark: str | None
    seed: int
    config: dict[str, Any]  # {"model", "data", "trainer"}; {"sources": {module: SHA-256}} where own code ran
    data: dict[str, Any]  # {"name", "measure", "shape", "sizes", "hashes": {split: SHA-256}}
    surrogate: bool  # the likelihood is not normalised for the data's measure
    started_at_mean: bool  # the likelihood's output started at the data's mean
    selection: str  # selection of the measured weights, parsed by `measured`
    protocol: dict[str, Any]  # {"k", "n", "split", "version", ...}
    metrics: dict[str, Any]  # {name: {"value", "se", "unit", "n", "definition", ...} or {"unavailable": reason, ...}}
    units: dict[str, Any]  # values of every latent unit
    collapse: dict[str, Any]  # the verdict and its evidence
    tables: dict[str, Any]  # curves and matrices of the evaluation, by name
    warnings: list[Any]  # sentences for readers of the results
    curves: dict[str, Any]  # {name: {"step": [...], "value": [...]}}
    cost: dict[str, Any]  # {"parameters", "step_flops", "evaluation_flops", "device", "threads", ...}: `running.cost`
    times: dict[str, Any]  # everything that depends on the clock, and the machine
    environment: dict[str, Any]  # versions and commit
    checkpoint: dict[str, Any] | None = None  # {"file", "weights": SHA-256}
    sources: dict[str, str] = field(default_factory=dict)  # the texts of modules of the user's own, as JSON, by name
    files: dict[str, Any] = field(default_factory=dict)  # SHA-256 of every other file but the checkpoint
    digest: str = ""  # SHA-256 of everything else in the record
    schema: int = SCHEMA
    path: Path | None = field(default=None, compare=False, repr=False)

    @property
    def measured(self) -> Selection | None:
        """The selection of the measured weights; None where an old record lacks their step."""
        return parsed(self.selection)

    def held_out(self, curve: str) -> float | None:
        """The value of a curve such as 'val/elbo' at the step of the measured weights; None where it has none there."""
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
        """Metrics of every test image, float32 (n,), read when needed.

        Raises:
            UserError: the record was never written, or its file is gone.
        """
        return {name: array for name, array in self._arrays().items() if array.dtype.kind == "f"}

    def index(self) -> np.ndarray | None:
        """The position of each of these images in the data set's source, int64 (n,); None in records without it.

        Raises:
            UserError: as in `per_image`.
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
            OSError: it is missing, or not a regular file with a plain name.
        """
        return open_file(self.path or Path(), name)

    def _repr_html_(self) -> str:
        """A table of the metrics, for notebooks."""
        return metrics_html(self.metrics, self.collapse, f"{self.variant}, seed {self.seed}, on {self.data['name']}")

    def frame(self) -> Any:
        """The metrics as a pandas DataFrame, a row each.

        Raises:
            UserError: pandas is not installed.
        """
        return frame([{"metric": name, **metric} for name, metric in self.metrics.items()], "metric")

    def pictures(self) -> dict[str, Path]:
        """The PNG files of the run by name; `open` reads them."""
        return {Path(name).stem: Path(self.path or "", name) for name in sorted(self.files) if name.endswith(".png")}

    def pixels(self, name: str) -> np.ndarray:
        """One of the `pictures`, uint8 (h, w, 3).

        Raises:
            UserError: it is missing, or not a regular file with a plain name, or no whole PNG of a usual size.
        """
        from PIL import Image

        try:
            with self.open(f"{name}.png") as png, Image.open(png, formats=["PNG"]) as picture:  # a stranger's file
                return np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"'{self.path}/{name}.png' cannot be read ({error}): expected a PNG file; restore it or run it again"
            ) from error


@dataclass(frozen=True)
class Damage:
    """A damaged record: its directory, and the reason with a remedy."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Records(tuple[RunRecord, ...]):
    """The sound records below the directory `root`, sorted by path; `damaged` lists the others."""

    root: Path
    damaged: tuple[Damage, ...]

    def _repr_html_(self) -> str:
        """A table of the records, for notebooks, with the figures that all of them have."""
        shared = [name for name in self[0].metrics if all(one.value(name) is not None for one in self)] if self else []
        rows = [[one.variant, one.seed, one.data["name"], *(one.value(name) for name in shared)] for one in self]
        damaged = "; ".join(f"damaged: {damage}" for damage in self.damaged)
        return html_table(["variant", "seed", "data", *shared], rows, below=damaged)

    def frame(self) -> Any:
        """A pandas DataFrame with a row for each record by its id, and a column for each metric; NaN where it has none.

        Raises:
            UserError: pandas is not installed.
        """
        about = [
            {"id": one.id, "variant": one.variant, "family": one.family, "seed": one.seed, "data": one.data["name"],
             "measure": one.data["measure"], **{name: one.value(name) for name in one.metrics}}
            for one in self
        ]  # fmt: skip
        return frame(about, "id")


def stable(record: RunRecord) -> dict[str, Any]:
    """The record without times and digest: the part that two runs of the same seed share."""
    return {name: value for name, value in asdict(record).items() if name not in ("times", "digest", "path")}
