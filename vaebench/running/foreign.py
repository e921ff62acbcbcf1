"""Records of models that were trained elsewhere."""

from __future__ import annotations

import inspect
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jsonargparse import ArgumentParser
from torch import Tensor

from vaebench import evaluation
from vaebench.adapters import Foreign
from vaebench.configuration import own
from vaebench.configuration.discovery import datasets
from vaebench.configuration.explain import explained, require_values
from vaebench.configuration.seeds import EXPECTED, is_seed
from vaebench.core import Family
from vaebench.data.base import ImageData
from vaebench.errors import UserError
from vaebench.evaluation.conditions import evaluation_mode, modules
from vaebench.evaluation.contract import IMAGES, check_model
from vaebench.evaluation.forecast import forecast
from vaebench.evaluation.report import model_digest
from vaebench.evaluation.subject import Subject
from vaebench.files import alone_in, is_plain
from vaebench.records import RECORD, RunRecord, foreign_identity, read_record, write_record
from vaebench.running.cost import cost
from vaebench.running.precision import settled
from vaebench.running.processes import find_device
from vaebench.running.recording import environment, record_id, results, state_hash, texts, work_folder
from vaebench.training.checkpoint import Described, describe
from vaebench.training.parser import NAMES, classes_first, expand_names, own_paths

ELSEWHERE = "trained elsewhere"  # in place of the steps of the measured weights


class RecordableImages(Described, Protocol):
    """Images that a record can be made of."""

    def images(self, split: str) -> Tensor: ...
    def index(self, split: str) -> Tensor: ...


def record_foreign(
    foreign: Foreign,
    data: RecordableImages,
    folder: Path,
    request: Mapping[str, Any] | evaluation.Protocol,
    name: str | None = None,
    trained_seed: int | None = None,
    progress: bool = True,
    device: str | None = None,
) -> RunRecord:
    """Evaluates a model from elsewhere into `folder/<data set>/<name>-s<seed>-<id>`, or reads the existing record.

    Args:
        foreign: the model.
        data: its test images.
        folder: of all records.
        request: a protocol, or arguments of `read_protocol`; the precision may then be 'auto' as well.
        name: of its row on a leaderboard; default: that of its kind.
        trained_seed: the seed that it was trained with; models of one name and kind with different seeds are one row.
            Default: a row of its own.
        progress: draw a progress bar, and say before how long it will take, where that is long.
        device: of the evaluation; default: the first GPU, or the CPU without one.

    Raises:
        UserError: the name cannot be that of a file, the seed is none, or the model violates `LatentModel`.
    """
    name = foreign.name if name is None else name
    if not is_plain(name) or not is_plain(data.name):
        raise UserError(
            f"'{name}' on '{data.name}' cannot name a record: expected letters, digits and ._+=@- ; give another --name"
        )
    if trained_seed is not None and not is_seed(trained_seed):
        raise UserError(f"the seed of '{name}' cannot be {trained_seed}: expected {EXPECTED}; give another")
    seed, model = trained_seed or 0, foreign.model
    if isinstance(model, Family):
        raise UserError(
            "this is a family of vaebench's: expected a model from elsewhere; record its checkpoint with `vaebench "
            "evaluate`, which keeps how it was trained"
        )
    here = find_device(device)
    for part in modules(model):
        part.to(here)
    if isinstance(request, evaluation.Protocol):
        protocol = request
    else:
        protocol = evaluation.read_protocol(**settled(request, lambda: (model, data)))
    weights = weights_of(model)
    described = foreign.config
    if trained_seed is None:
        described["init_args"]["weights"] = weights or model_digest(Subject(model, data, limit=1)).hex()
    config = {"model": described, "data": data_config(data), "trainer": {}}
    if foreign.sources:
        config["sources"] = own.hashed(foreign.sources)
    number = record_id(foreign_identity(config, weights, seed, data.hashes), protocol)
    directory = folder / data.name / f"{name}-s{seed}-{number[:8]}"
    with alone_in(work_folder(directory)):
        if (directory / RECORD).is_file():
            return read_record(directory)
        subject = Subject(model, data, limit=IMAGES)
        with evaluation_mode(model, subject.device):
            check_model(model, subject.x[:IMAGES], subject.spec)  # whatever is measured
        if progress and (sentence := forecast(model, data, protocol)):
            print(sentence, file=sys.stderr)
        start = time.perf_counter()
        work = work_folder(directory)
        report = evaluation.evaluate(model, data, protocol, work=work, progress=progress)
        body = {
            "id": number,
            "family": name,
            "variant": name,
            "benchmark": None,
            "surrogate": False,
            "seed": seed,
            "config": config,
            "data": describe(data),
            "started_at_mean": False,
            "selection": ELSEWHERE,
            "curves": {},
            **texts(own.as_json(foreign.sources), protocol),
            **results(report),
            "warnings": report.warnings,
            "cost": cost(model, data, protocol=protocol),
            "times": {"evaluate_seconds": round(time.perf_counter() - start, 3)},
            "environment": environment(here),
            "checkpoint": None if weights is None else {"weights": weights},
        }
        index = data.index("test")[: report.protocol["n"]].numpy()
        record = write_record(directory, body, report.per_image, report.pictures, None, index)
        shutil.rmtree(work, ignore_errors=True)
    return record


def weights_of(model: Any) -> str | None:
    """SHA-256 of the state of a model's modules, as `state_hash`; None for a model without any."""
    state: dict[str, Tensor] = {}
    for number, part in enumerate(modules(model)):
        state |= {f"{number}.{name}": value for name, value in part.state_dict().items() if isinstance(value, Tensor)}
    return state_hash(state) if state else None


def data_config(data: Any) -> dict[str, Any]:
    """A data module as a record keeps it, with its settings; nothing but its kind for images that were handed over."""
    cls = type(data)
    given = dict(data.hparams) if isinstance(data, ImageData) else {}
    known = inspect.signature(cls.__init__).parameters
    return {
        "class_path": f"{cls.__module__}.{cls.__qualname__}",
        "init_args": {key: value for key, value in given.items() if key in known},
    }


def chosen_data(arguments: Sequence[str]) -> ImageData:
    """The data module of command-line arguments, such as `--data digits --data.measure=binary`, which the user typed.

    Raises:
        UserError: there is no such data set or setting, or it cannot be built.
    """
    typed = list(expand_names(classes_first(arguments)))
    for path in own_paths(typed):
        own.require_class(path)
    datasets()  # imports them, so that short class names resolve
    parser = ArgumentParser(exit_on_error=False, parser_mode=NAMES)
    parser.add_subclass_arguments(ImageData, "data", required=True)
    with explained():
        parsed = parser.parse_args(typed)
        require_values(parsed.as_dict())
        return parser.instantiate(parsed).data
