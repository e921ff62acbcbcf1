"""What a figure is: a value with its standard error, unit and definition, or the reason why there is none."""

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
class Metric:
    """One figure of a model.

    Attributes:
        value: the figure; None where it is unavailable.
        se: its standard error over the n images, sd/√n, or as the definition says; None where there is none.
        unit: of value and se; '' for a pure number.
        n: number of images.
        definition: what was computed.
        higher_is_better: None where neither direction is.
        unavailable: why there is no value.
        version: of the definition; figures of one name and different versions are not compared.
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
    """What all figures of one name have in common; `{...}` in a definition is filled in by each.

    `version` rises when the definition changes what a figure is: records of different versions stay side by side, and
    only that figure of theirs is not compared.
    """

    unit: str
    higher_is_better: bool | None
    definition: str
    version: int = 1


@dataclass
class Findings:
    """What one measurement found, filled by it figure by figure.

    Attributes:
        kinds: of the figures that it can give.
        measurement: its name.
        metrics: figures by name.
        per_image: figures of every test image, float32 (n,).
        units: figures of every latent unit.
        tables: JSON-able curves, matrices and verdicts by name.
        pictures: uint8 RGB arrays (h, w, 3) by name.
        warnings: sentences that a reader of the figures must know.
    """

    kinds: Mapping[str, MetricKind]
    measurement: str = ""
    metrics: dict[str, Metric] = field(default_factory=dict)
    per_image: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    units: dict[str, list[float]] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def average(self, name: str, values: Tensor, keep: bool = True, kind: str = "", **fill: Any) -> None:
        """The mean over images of values (n,), with its standard error; unavailable where a value is not finite.

        Args:
            name: of the figure, a key of `kinds`.
            values: one figure an image.
            keep: every image's figure in `per_image` too; not where they are of some of the test images only.
            kind: the key of `kinds`, where it is not the name.
            fill: what the definition leaves open.
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
        self.metrics[name] = Metric(float(value), se, unit, images, text, higher, None, version)

    def missing(self, name: str, reason: str, kind: str = "", **fill: Any) -> None:
        """A figure that cannot be had, and why."""
        unit, higher, definition, version = self.kinds[kind or name]
        self.metrics[name] = Metric(None, None, unit, None, definition.format(**fill), higher, reason, version)

    @contextmanager
    def attempt(self, *names: str, end: str = "", **fill: Any) -> Iterator[None]:
        """A block that finds figures: where it fails, those that it has not found are unavailable, with the reason.

        The reason is that of `Unavailable`, also through `absence`; or that arithmetic failed on these images, since
        one odd label or factor must not end an evaluation. The code after the block runs in either case.

        Args:
            names: kinds of the figures.
            end: of the figures' names, after the names of their kinds.
            fill: what the definitions leave open.

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
        """All of it as arrays, for a `Store`; numbers of tables and units that are not finite become None."""
        metrics = {name: asdict(metric) for name, metric in self.metrics.items()}
        rest = {"units": self.units, "tables": self.tables, "warnings": self.warnings}
        body = json.dumps(_finite({"metrics": metrics, **rest}), allow_nan=False)
        arrays: dict[str, NDArray[Any]] = {"body": np.array(body)}
        for kind, columns in (("per_image", self.per_image), ("pictures", self.pictures)):
            arrays |= {f"{kind}/{name}": values for name, values in columns.items()}
        return arrays

    @classmethod
    def unpack(cls, arrays: Arrays) -> Findings:
        """What `pack` packed."""
        body = json.loads(str(arrays["body"]))
        metrics = {name: Metric(**metric) for name, metric in body.pop("metrics").items()}
        findings = cls({}, metrics=metrics, **body)
        for path, values in arrays.items():
            kind, _, name = path.partition("/")
            if name:
                (findings.per_image if kind == "per_image" else findings.pictures)[name] = values
        return findings


def _finite(value: Any) -> Any:
    """JSON-able values with None in the place of floats that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
