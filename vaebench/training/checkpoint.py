"""A finished run's files: config.yaml, and model.ckpt with all that is needed to evaluate and repeat it."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any, Protocol

from vaebench.configuration import own
from vaebench.core import Family
from vaebench.core.divergence import require_finite
from vaebench.data.base import ImageData
from vaebench.errors import UserError
from vaebench.files import write_atomically
from vaebench.measures import DataSpec
from vaebench.records import CHECKPOINT
from vaebench.training.experiment import Experiment
from vaebench.training.history import TrainingHistory
from vaebench.training.machine import machine
from vaebench.training.parser import named_paths
from vaebench.training.saves import write_tensors
from vaebench.traits import LikelihoodTraits


class Described(Protocol):
    """Images with a name, and hashes of their splits: a data module, or images that were handed over."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> DataSpec: ...
    @property
    def sizes(self) -> dict[str, int]: ...
    @property
    def hashes(self) -> dict[str, str]: ...


def describe(data: Described) -> dict[str, Any]:
    """The data's part of a record: name, measure, shape, sizes and hashes of the splits."""
    spec = data.spec
    return {
        "name": data.name,
        "measure": spec.measure,
        "shape": list(spec.shape),
        "sizes": data.sizes,
        "hashes": data.hashes,
    }


def require_loadable(model: Family) -> None:
    """Refuses, before it is trained, a family whose checkpoint could not be built again.

    Raises:
        UserError: an argument of its constructor, or of that of a part of the user's own, has no type, which the parser
            of its checkpoint needs.
    """
    for path in named_paths(dict(model.hparams)):
        if inspect.isclass(part := own.require_class(path)):
            _require_types(part)
    _require_types(type(model))


def _require_types(cls: type) -> None:
    constructor = inspect.getattr_static(cls, "__init__")
    for name, argument in list(inspect.signature(constructor).parameters.items())[1:]:
        named = argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
        needed = issubclass(cls, Family) or argument.default is argument.empty
        if named and needed and argument.annotation is argument.empty:
            kind = {"data": "DataSpec", "inputs": "tuple[int, ...]", "outputs": "tuple[int, ...]"}.get(name, "float")
            raise UserError(
                f"{cls.__name__} takes '{name}' without a type, and its checkpoint could not be loaded again: "
                f"expected an annotation such as '{name}: {kind}'; write it in its constructor"
            )


def write_config(job: Experiment, work: Path) -> None:
    """Writes `work/config.yaml` for `vaebench fit --config`."""
    write_atomically(work / "config.yaml", config_text(job).encode())


def config_text(job: Experiment) -> str:
    """All settings of a run, as its config.yaml has them."""
    return job.parser.dump(job.config, skip_unset=False, format="yaml")


def write_checkpoint(
    job: Experiment, work: Path, model: Family, data: ImageData, history: TrainingHistory, started: str
) -> Path:
    """Writes `work/model.ckpt`, with all that is needed to evaluate the selected weights and to repeat the run.

    Args:
        job: the run.
        work: its folder.
        model, data, history: after the last step.
        started: when training began, ISO 8601.

    Raises:
        Diverged: some weights are not finite.
        UserError: no step was taken.
    """
    require_finite(dict(model.named_parameters()), model.steps)
    if not model.steps:
        raise UserError(
            "training ended before a step was taken, so that there is nothing to measure; raise "
            "trainer.max_epochs or trainer.max_steps"
        )
    buffers = dict(model.named_buffers(recurse=False))
    skipped = float(buffers.get("skipped", 0.0))
    if skipped > model.steps / 2:
        warnings.warn(
            f"{skipped:g} of {model.steps} steps were left out, for gradients longer than model.skip, "
            f"{float(buffers['skip']):g}: raise it",
            stacklevel=2,
        )
    selection, weights, warned = history.chosen(model)
    info = {
        "run": job.identity(data),
        "config": job.plain,
        **({"sources": own.as_json(job.sources)} if job.sources else {}),
        "seed": job.seed,
        "data": describe(data),
        "curves": history.curves,
        "selection": str(selection),
        "warnings": warned,
        "started": started,
        "train_seconds": round(history.seconds, 3),
        "images_per_second": round(history.images / max(history.seconds, 1e-9), 1),
        "machine": {**machine(model.device), **history.load},
        "started_at_mean": LikelihoodTraits.of(model.likelihood).started,
    }
    settings = dict(model.hparams)
    write_tensors(work / CHECKPOINT, {"state_dict": weights, "hyper_parameters": settings, "vaebench": info})
    return work / CHECKPOINT
