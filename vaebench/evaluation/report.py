"""`evaluate`: all metrics of a protocol, for one model on the test images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Formatter
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.core import Family, LatentModel
from vaebench.display.tables import frame, metrics_html
from vaebench.display.terminal import progress_bar
from vaebench.errors import Unavailable, require_kernels, unknown
from vaebench.evaluation.conditions import Conditioned, evaluation_mode, modules, start_noise
from vaebench.evaluation.contract import IMAGES, check_model
from vaebench.evaluation.estimators.draws import sample
from vaebench.evaluation.images import parts
from vaebench.evaluation.metrics import Findings, MetricValue, Picture
from vaebench.evaluation.own_code import OwnMeasurement
from vaebench.evaluation.protocol import DEFAULT, Protocol, opened, read_protocol
from vaebench.evaluation.store import Pieces, Store
from vaebench.evaluation.subject import Forewarned, Images, Subject

NOT_JUDGED = {"verdict": "unknown", "units": [], "sentence": "not judged: the protocol does not measure it"}


CONDITIONAL = (
    "the model is told each image's label: its figures are of log p(x|y), not of log p(x), and do not rank beside those"
)


@dataclass(frozen=True)
class Report:
    """The results of an evaluation on the test images.

    Attributes:
        metrics: by name.
        per_image: values of every image, float32 (n,).
        units: values of every latent unit: 'kl' (nats), 'mean_variance', 'decoder_drop' (nats), ...
        collapse: the verdict on posterior collapse; see `vaebench.evaluation.estimators.collapse`.
        tables: JSON-serialisable curves and matrices by name.
        warnings: sentences for readers of the results.
        protocol: version, name, seed, split, n, k, and the settings of each measurement.
        pictures: uint8 RGB arrays (h, w, 3).
    """

    metrics: dict[str, MetricValue] = field(default_factory=dict)
    per_image: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    units: dict[str, list[float]] = field(default_factory=dict)
    collapse: dict[str, Any] = field(default_factory=lambda: dict(NOT_JUDGED))
    tables: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """A table of the metrics, for notebooks."""
        return metrics_html({name: asdict(metric) for name, metric in self.metrics.items()}, self.collapse)

    def figure(self, picture: str) -> Any:
        """One of the pictures as a `plotly.graph_objects.Figure`, to enlarge and move in a notebook.

        Raises:
            UserError: there is none of that name.
        """
        if picture not in self.pictures:
            raise unknown("picture", picture, self.pictures)
        from plotly.graph_objects import Figure, Image

        axis = {"visible": False}
        return Figure(data=[Image(z=self.pictures[picture])], layout={"xaxis": axis, "yaxis": axis})

    def frame(self) -> Any:
        """The metrics as a pandas DataFrame, a row each.

        Raises:
            UserError: pandas is not installed.
        """
        return frame([{"metric": name, **asdict(metric)} for name, metric in self.metrics.items()], "metric")


def evaluate(
    model: LatentModel,
    datamodule: Images,
    protocol: str | Path | Protocol = DEFAULT,
    *,
    work: Path | None = None,
    progress: bool = True,
    **changes: Any,
) -> Report:
    """Evaluates a model on the test images of a data module; leaves both and the random state unchanged.

    Args:
        model: anything with the three parts (`vaebench.core.LatentModel`).
        datamodule: anything with `images(split)`, (n, *data), and `spec`.
        protocol: a name ('quick', 'likelihood', 'refined', 'full', …), a YAML file, or a `Protocol`.
        work: folder for finished pieces. An interrupted evaluation resumes there, and processes with the same folder
            share the work. None stores nothing.
        progress: show a progress bar on a terminal.
        changes: to the protocol: seed, limit, k, precision, compile, measurements.

    Raises:
        UserError: a protocol, measurement or setting that does not exist, a count below 1, an image with values that
            its measure does not have, an importance weight that is not finite, a model that violates `LatentModel`,
            or an operation that torch lacks for the precision or the device.
    """
    plan = protocol if isinstance(protocol, Protocol) else read_protocol(protocol, **changes)
    if isinstance(protocol, Protocol) and changes:
        raise TypeError("a Protocol takes no changes here: change it before")
    with progress_bar(enabled=progress) as (describe, advance):
        subject = Subject(model, datamodule, plan.seed, plan.limit, advance=advance)
        if work is not None:
            subject.store = Store(work / _fingerprint(subject, plan))
        report = Report(protocol={**plan.config, "split": "test", "n": len(subject.raw)})
        if plan.limit is None or plan.limit < subject.size:
            del report.protocol["limit"]  # n holds it
        if isinstance(subject.model, Conditioned):
            report.protocol["given"] = "labels"
            report.warnings.append(CONDITIONAL)
        if isinstance(datamodule, Forewarned):
            report.warnings.extend(datamodule.warnings())
        with evaluation_mode(model, subject.device), require_kernels():
            if "likelihood" in plan.measurements and not isinstance(model, Family):
                report.warnings.extend(check_model(model, subject.x[:IMAGES], subject.spec))
            pieces = Pieces(subject.store, plan.measurements)
            for name in pieces:
                describe(name)
                module, settings = opened(name, plan.measurements[name])
                start_noise(name.encode(), subject.seed % 2**63, subject.device)
                findings = Findings(module.KINDS, name)
                with findings.attempt(*module.KINDS, **_open(module, settings)):
                    _require_labelled(subject, name, module)
                    module.measure(subject, findings, **settings)
                pieces[name] = findings.pack()
    for arrays in pieces.finished():
        _merge(report, Findings.unpack(arrays))
    return report


def _require_labelled(subject: Subject, name: str, module: ModuleType | OwnMeasurement) -> None:
    if isinstance(subject.model, Conditioned) and not getattr(module, "LABELLED", False):
        raise Unavailable(f"the measurement '{name}' does not support the labels of a conditional model")


class _Open:
    """A placeholder of a definition that nothing has filled, in any format."""

    def __format__(self, spec: str) -> str:
        return "…"


def _open(module: ModuleType | OwnMeasurement, settings: dict[str, Any]) -> dict[str, Any]:
    """The placeholders of a measurement's definitions: its settings, and blanks for its results."""
    texts = "".join(kind.definition for kind in module.KINDS.values())
    return {**{name: _Open() for _, name, _, _ in Formatter().parse(texts) if name}, **settings}


def _merge(report: Report, findings: Findings) -> None:
    if (verdict := findings.tables.pop("collapse", None)) is not None:
        report.collapse.clear()
        report.collapse.update(verdict)
    report.warnings.extend(findings.warnings)
    report.metrics.update(findings.metrics)
    report.per_image.update(findings.per_image)
    report.units.update(findings.units)
    report.tables.update(findings.tables)
    report.pictures.update(findings.pictures)


def _fingerprint(subject: Subject, plan: Protocol) -> str:
    """16 hex digits that identify protocol, images and model, so that pieces of another evaluation are never reused."""
    digest = hashlib.sha256(json.dumps(plan.config, sort_keys=True).encode())
    for part in parts(subject.raw):
        digest.update(part.float().numpy().tobytes())
    digest.update(model_digest(subject))
    return digest.hexdigest()[:16]


def model_digest(subject: Subject) -> bytes:
    """A hash of a model: the labels that it is given, the weights and the plain settings of its modules, or without
    modules its output for an image."""
    digest = hashlib.sha256()
    if isinstance(subject.model, Conditioned):
        digest.update(subject.model.y.cpu().numpy().tobytes())
    parts = modules(subject.model)
    for part in parts:
        for name, value in sorted(part.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().float().numpy().tobytes())
        for name, module in part.named_modules():
            plain = {k: v for k, v in vars(module).items() if k[0] != "_" and isinstance(v, str | int | float)}
            plain.pop("training", None)
            digest.update(repr((name, type(module).__qualname__, sorted(plain.items()))).encode())
    if not parts:
        with evaluation_mode(subject.model, subject.device):
            x, start = subject.x[:1], sample(subject.model.prior(), 1)
            log_x = subject.model.likelihood(sample(subject.model.posterior(x), 1)).log_prob(x)
        digest.update(f"{float(start.double().sum()):.6g} {float(log_x):.6g}".encode())
    return digest.digest()
