"""The doors of the Python interface: what the commands do, for models and images at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebench import evaluation
from vaebench.adapters import Foreign, as_model
from vaebench.configuration import own
from vaebench.configuration.discovery import find_class
from vaebench.data._given import GivenImages, given
from vaebench.evaluation import Report
from vaebench.evaluation.protocol import DEFAULT
from vaebench.records import RunRecord
from vaebench.running.foreign import record_foreign

images = given


def evaluate(model: Any, data: Any, protocol: str | Path | evaluation.Protocol = DEFAULT, **changes: Any) -> Report:
    """Evaluates a model on test images; see `vaebench.evaluation.evaluate`, which this calls.

    Args:
        model: a model of the three parts, or a table of them or of the arguments of `vaebench.adapters.Autoencoder`.
        data: a data module, the name of a data set, or images: a tensor, an array, a Dataset or a DataLoader, of which
            `vb.images` says more where that is needed.
        protocol: a name ('quick', 'likelihood', …), a YAML file, or a `Protocol`.
        changes: to the protocol (seed, limit, k, precision, compile, measurements), and `progress`.

    Raises:
        UserError: as `vaebench.evaluation.evaluate` and `vb.images`.
    """
    return evaluation.evaluate(_model(model), as_images(data), protocol, **changes)


def record(
    model: Any,
    data: Any,
    name: str | None = None,
    protocol: str | Path = DEFAULT,
    results: str | Path = "results",
    trained_seed: int | None = None,
    device: str | None = None,
    progress: bool = True,
    **changes: Any,
) -> RunRecord:
    """Evaluates a model from elsewhere and writes a record, which ranks and compares like all others.

    Args:
        model, data, protocol, changes: as for `vb.evaluate`.
        name: of its row on a leaderboard; default: that of its class.
        results: folder of all records.
        trained_seed: the seed that it was trained with; models of one name and kind with different ones are one row.
        device: of the evaluation; default: the first GPU, or the CPU without one.
        progress: draw a bar, and say before how long it will take, where that is long.

    Raises:
        UserError: as `vb.evaluate`, or the name cannot be that of a file.
    """
    cls = type(model)
    kind = (
        "autoencoder" if isinstance(model, Mapping) else f"{cls.__module__}.{cls.__qualname__}".replace("<locals>.", "")
    )
    foreign = Foreign(_model(model), "python", kind, sources=own.sources(kind))
    request = {"name": protocol, **changes}
    return record_foreign(foreign, as_images(data), Path(results), request, name, trained_seed, progress, device)


def _model(made: Any) -> Any:
    """A model of the three parts; a table of parts as one."""
    return as_model(made, "the model") if isinstance(made, Mapping) else made


def as_images(data: Any) -> Any:
    """Images as evaluation takes them; see `evaluate`."""
    if isinstance(data, str):
        return find_class("data set", data)()
    if isinstance(data, GivenImages) or (hasattr(data, "spec") and callable(getattr(data, "images", None))):
        return data
    return given(data)
