"""What the commands do, for models and images at hand."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vaebench import evaluation
from vaebench.adapters import Foreign, as_model
from vaebench.configuration import own
from vaebench.configuration.discovery import find_class
from vaebench.configuration.early import require_known
from vaebench.data._given import arrays_of, given
from vaebench.data.base import ImageData
from vaebench.display.tables import html_table
from vaebench.errors import UserError
from vaebench.evaluation import Report
from vaebench.evaluation.protocol import DEFAULT
from vaebench.files import write_atomically
from vaebench.leaderboard import Board, markdown, ranked
from vaebench.leaderboard.facts import title
from vaebench.leaderboard.plots import of_board, of_comparison
from vaebench.leaderboard.table import table as board_table
from vaebench.leaderboard.versus import Versus, versus
from vaebench.leaderboard.versus_text import plain
from vaebench.measures import BINARY
from vaebench.records import Records, RunRecord, read_record
from vaebench.running.bench import bench as run_bench
from vaebench.running.benchmark import read_benchmark
from vaebench.running.evaluate import record_checkpoint
from vaebench.running.fit import fit as run_fit
from vaebench.running.foreign import data_config, record_foreign

images = given
HANDED = (Tensor, np.ndarray, list, tuple, Dataset, DataLoader)  # what `vb.images` takes


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
    return given(data) if isinstance(data, HANDED) else data


def fit(
    family: str,
    data: Any,
    out: str | Path = "runs",
    seed: int = 0,
    trainer: Mapping[str, Any] | None = None,
    data_settings: Mapping[str, Any] | None = None,
    logger: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Trains one model, as `vaebench fit` does; a run that ended before is not trained again.

    Args:
        family: name of a family ('beta_vae') or of a combination ('vamp_vae'), or the class path of one of your own.
        data: name of a data set, a data module, or images: a tensor, an array, a Dataset or a DataLoader, with labels
            where it has some, which are kept in a file in `out`. The values of black and white of images that are no
            levels are said by `data_settings={"range": [0, 1]}`.
        out: where the run's own folder goes.
        seed: of the run.
        trainer: settings of the trainer, `{"max_epochs": 20}`.
        data_settings: settings of the data set, `{"measure": "binary"}`.
        logger: wandb, wandb:PROJECT, wandb:ENTITY/PROJECT, tensorboard or csv.
        progress: show how far it is.
        settings: of the family; parts as in a configuration file: `prior="vamp"`.

    Returns:
        Its model.ckpt, for `vb.load` and `vb.evaluate_checkpoint`.

    Raises:
        UserError: the settings are not valid, or the run cannot be trained.
    """
    place = Path(out)
    name, read = _readable(data, place)
    options = {"model": settings, "data": {**read, **(data_settings or {})}, "trainer": trainer or {}}
    args = [f"--model={family}", f"--data={name}", f"--seed_everything={seed}"]
    args += [
        f"--{section}.{key}={_option(value)}" for section, table in options.items() for key, value in table.items()
    ]
    require_known(args)
    return run_fit(args, place, logger, progress=progress).checkpoint


def evaluate_checkpoint(
    checkpoint: str | Path,
    protocol: str | Path = DEFAULT,
    results: str | Path = "results",
    device: str | None = None,
    progress: bool = True,
    **changes: Any,
) -> RunRecord:
    """Evaluates a checkpoint on its own test images and writes a record, as `vaebench evaluate` does.

    Args:
        checkpoint: the model.ckpt of a finished run.
        protocol, changes: as for `vb.evaluate`.
        results, device, progress: as for `vb.record`.

    Raises:
        UserError: it is no checkpoint, or cannot be evaluated.
    """
    return record_checkpoint(Path(checkpoint), Path(results), {"name": protocol, **changes}, progress, device)


def bench(
    file: str | Path, results: str | Path = "results", work: str | Path = "runs", progress: bool = True, **options: Any
) -> Records:
    """Runs what is missing of a benchmark, as `vaebench bench` does, and returns its records.

    Args:
        file: the benchmark's YAML file, or the name of one of the suite's ('digits').
        results: folder of records.
        work: folder of unfinished runs.
        progress: show how far it is.
        options: `engine` and `logbook` of `vaebench.running.bench.bench`.

    Raises:
        UserError: the file is not valid, or a run has no record, which is said once all have ended.
    """
    runs = list(run_bench(read_benchmark(Path(file)), Path(results), Path(work), progress, **options))
    lost = [f"{ended.training.variant} seed {ended.training.seed}: {ended.reason}" for ended in runs if ended.reason]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(runs)} runs have no record ({'; '.join(lost)}); the others are in {results}"
        )
    found = Records(read_record(ended.place) for ended in runs)
    found.root, found.damaged = Path(results), ()
    return found


class Comparisons(list[Versus]):
    """Comparisons of two sides, one for every board that they share; printed, what the records say of them."""

    def __str__(self) -> str:
        return plain(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def figures(self) -> list[Any]:
        """Figures of plotly's for each: differences image by image, means of seeds, rate against distortion."""
        return [figure for one in self for figure in of_comparison(one)]


def compare(first: str, second: str, results: str | Path = "results", metric: str | None = None) -> Comparisons:
    """Compares two variants or records on every board that they share, as `vaebench compare` does.

    Args:
        first, second: a variant as the leaderboard names it, the id of a record, or the folder of a run.
        results: folder of records.
        metric: by which they are compared; default: that of their benchmark, or log_likelihood.

    Raises:
        UserError: there is no such side, or they share no board.
    """
    return Comparisons(versus(first, second, results, metric))


class Boards(list[Board]):
    """Boards of ranked runs; printed they are Markdown, and tables in a notebook."""

    def __str__(self) -> str:
        return markdown(self)

    def _repr_html_(self) -> str:
        return "".join(
            html_table([c.heading for c in sheet.columns], [[c.text for c in row] for row in sheet.cells], title(board))
            for board, sheet in ((board, board_table(board)) for board in self)
        )

    def figures(self) -> list[Any]:
        """A figure of plotly's for each: every variant's difference from the leader, with its 95 % interval."""
        return [of_board(board) for board in self]

    def frame(self) -> Any:
        """The records on all boards as a pandas DataFrame; see `Records.frame`.

        Raises:
            UserError: pandas is not installed.
        """
        return Records(record for board in self for record in board.records).frame()


def leaderboard(results: str | Path = "results", metric: str | None = None, trials: bool = False) -> Boards:
    """Ranks the records of a folder, as `vaebench leaderboard` does.

    Args:
        results: folder of records.
        metric: to rank by; default: that of a benchmark, or log_likelihood.
        trials: rank trials of sweeps among the other runs.

    Raises:
        UserError: there is no such folder, no record in it, or no run has that metric.
    """
    return Boards(ranked(results, metric, trials=trials)[1])


def _option(value: Any) -> str:
    """A setting as text for the parser: tables and lists as JSON."""
    return json.dumps(value) if isinstance(value, Mapping | list | tuple | bool | None) else str(value)


def _readable(data: Any, folder: Path) -> tuple[str, dict[str, Any]]:
    """The data set that `vaebench fit` reads images from, and its settings."""
    if isinstance(data, str):
        return data, {}
    if isinstance(data, ImageData):
        config = data_config(data)
        return config["class_path"], config["init_args"]
    array, labels = arrays_of(data)
    bits = array.dtype.kind in "buif" and bool(((array == 0) | (array == 1)).all())
    return "arrays", {"path": _kept(array, labels, folder), **({"measure": BINARY, "levels": 2} if bits else {})}


def _kept(array: NDArray[Any], labels: NDArray[Any] | None, folder: Path) -> str:
    """Images in a file of arrays, named after their content."""
    named: dict[str, Any] = {"images": array} if labels is None else {"images": array, "labels": labels}
    buffer = io.BytesIO()
    np.savez(buffer, **named)
    content = b"".join(one.tobytes() for one in named.values())
    path = folder / f"given-{hashlib.sha256(content).hexdigest()[:8]}.npz"
    if not path.is_file():
        write_atomically(path, buffer.getvalue())
    return str(path)
