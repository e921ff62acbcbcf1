"""Measured values with standard error, unit and definition, or the reason why one is unavailable."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.errors import Unavailable, UserError, absence
from vaebench.evaluation.estimators.moments import average
from vaebench.evaluation.store import Arrays

FAILURES = (ValueError, ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError)  # of the data, not the code

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class MetricValue:
    """One measured value of a model.

    Attributes:
        value: in `unit`; None where it is unavailable.
        se: standard error over the n images, sd/√n or as defined; None where there is none.
        unit: of value and se; '' for a pure number.
        n: number of images.
        definition: what was computed.
        higher_is_better: None where neither direction is better.
        unavailable: why there is no value.
        version: of the definition; values of different versions are not compared.
    """

    value: float | None
    se: float | None
    unit: str
    n: int | None
    definition: str
    higher_is_better: bool | None
    unavailable: str | None = None
    version: int = 1


class MetricKind(NamedTuple):
    """What all values of one metric share; placeholders `{...}` in its definition are filled in for each.

    A change of meaning raises `version`. Records of different versions may stay on one board; only this metric of
    theirs is not compared.
    """

    unit: str
    higher_is_better: bool | None
    definition: str
    version: int = 1


@dataclass
class Findings:
    """The results of one measurement, which adds them one by one.

    Attributes:
        kinds: of the metrics that it can give.
        measurement: its name.
        metrics: by name.
        per_image: figures of every test image, float32 (n,).
        units: figures of every latent unit.
        tables: JSON-serialisable curves, matrices and verdicts by name.
        pictures: uint8 RGB arrays (h, w, 3) by name.
        warnings: sentences for readers of the results.
    """

    kinds: Mapping[str, MetricKind]
    measurement: str = ""
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    per_image: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    units: dict[str, list[float]] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def average(self, name: str, values: Tensor, keep: bool = True, kind: str = "", **fill: Any) -> None:
        """Adds the mean over images with its standard error; unavailable where a value is not finite.

        Args:
            name: of the metric, a key of `kinds`.
            values: one per image, (n,).
            keep: store them in `per_image` too; False where they cover only some of the test images.
            kind: the key of `kinds`, where it differs from the name.
            fill: placeholders of the definition.
        """
        values = values.double().cpu()
        strange = ~torch.isfinite(values)
        if strange.any():
            self.missing(name, f"it is not finite for image {int(strange.nonzero()[0])}", kind, **fill)
            return
        value, se = average(values)
        self.single(name, value, len(values), se, kind, **fill)
        if keep:
            self.per_image[name] = values.float().numpy()

    def single(
        self, name: str, value: float, images: int, se: float | None = None, kind: str = "", **fill: Any
    ) -> None:
        """One figure of `images` together; `kind` where the kind has another name than the figure.

        Unavailable where it is not finite; without a standard error, and with a warning, where only that is not.
        """
        if not math.isfinite(value):
            self.missing(name, "it is not finite", kind, **fill)
            return
        if se is not None and not math.isfinite(se):
            self.warnings.append(f"{name} has no standard error: it is not finite on these {images} images")
            se = None
        unit, higher, definition, version = self.kinds[kind or name]
        text = definition.format(**fill)
        self.metrics[name] = MetricValue(float(value), se, unit, images, text, higher, None, version)

    def missing(self, name: str, reason: str, kind: str = "", **fill: Any) -> None:
        """Adds an unavailable metric with the reason."""
        unit, higher, definition, version = self.kinds[kind or name]
        self.metrics[name] = MetricValue(None, None, unit, None, definition.format(**fill), higher, reason, version)

    @contextmanager
    def attempt(self, *names: str, end: str = "", **fill: Any) -> Iterator[None]:
        """Runs a block that adds metrics; those that it has not added when it fails become unavailable.

        The reason is that of `Unavailable`, also through `absence`, or a numerical failure on these images: one odd
        label or factor must not end an evaluation. The code after the block runs in either case.

        Args:
            names: kinds of the metrics.
            end: suffix of the metrics' names after the names of their kinds.
            fill: placeholders of the definitions.

        Raises:
            UserError: the block raised it, or torch lacks an operation for the precision or on the device.
        """
        try:
            with absence():
                yield
        except UserError:
            raise
        except Unavailable as error:
            reason = str(error)
        except FAILURES as error:
            text = " ".join(str(error).split())[:200]
            reason = f"the measurement '{self.measurement}' failed ({type(error).__name__}: {text})"
            self.warnings.append(f"{reason}: figures that it had not found are unavailable")
        else:
            return
        for name in names:
            if f"{name}{end}" not in self.metrics:
                self.missing(f"{name}{end}", reason, name, **fill)

    def pack(self) -> Arrays:
        """All results as arrays for a `Store`; numbers of tables and units that are not finite become None."""
        metrics = {name: asdict(metric) for name, metric in self.metrics.items()}
        rest = {"units": self.units, "tables": self.tables, "warnings": self.warnings}
        body = json.dumps(_finite({"metrics": metrics, **rest}), allow_nan=False)
        arrays: dict[str, NDArray[Any]] = {"body": np.array(body)}
        for kind, columns in (("per_image", self.per_image), ("pictures", self.pictures)):
            arrays |= {f"{kind}/{name}": values for name, values in columns.items()}
        return arrays

    @classmethod
    def unpack(cls, arrays: Arrays) -> Findings:
        """The inverse of `pack`."""
        body = json.loads(str(arrays["body"]))
        metrics = {name: MetricValue(**metric) for name, metric in body.pop("metrics").items()}
        findings = cls({}, metrics=metrics, **body)
        for path, values in arrays.items():
            kind, _, name = path.partition("/")
            if name:
                (findings.per_image if kind == "per_image" else findings.pictures)[name] = values
        return findings


def _finite(value: Any) -> Any:
    """JSON-serialisable values, with None for floats that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
