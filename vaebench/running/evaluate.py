"""Evaluation of a single checkpoint, outside any benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebench.configuration.parts import name_of
from vaebench.core import Family
from vaebench.data.base import ImageData
from vaebench.errors import UserError
from vaebench.evaluation import read_protocol
from vaebench.files import alone_in, is_plain
from vaebench.records import RunRecord
from vaebench.running.precision import settled
from vaebench.running.processes import find_device
from vaebench.running.recording import account, record_id, run_of, work_folder
from vaebench.running.run import Run
from vaebench.training.models import data_module, load


def record_checkpoint(
    checkpoint: Path,
    results: Path,
    request: Mapping[str, Any],
    progress: bool = True,
    device: str | None = None,
    processes: int = 1,
) -> RunRecord:
    """Evaluates a checkpoint into `results/<data set>/<family>-s<seed>-<id>`, or reads the existing record.

    Args:
        checkpoint: of a finished run.
        results: folder of all records.
        request: arguments of `read_protocol`; the precision may be 'auto' as well.
        progress, device, processes: as in `record_run`.

    Raises:
        UserError: the checkpoint lacks information about its run, or cannot be evaluated.
    """
    info = account(checkpoint)

    def opened() -> tuple[Family, ImageData]:
        return load(checkpoint).to(find_device(device)), data_module(info["config"]["data"], checkpoint)

    protocol = read_protocol(**settled(request, opened))
    identity = run_of(info)
    family, name = name_of(info["config"]["model"]["class_path"]), info["data"]["name"]
    if not is_plain(name):
        raise UserError(
            f"'{checkpoint}' was trained on {name!r}: expected the name of a data set; give the model.ckpt of a "
            "finished run"
        )
    directory = results / name / f"{family}-s{info['seed']}-{record_id(identity, protocol)[:8]}"
    run = Run(
        identity, protocol, directory, work_folder(directory), progress=progress, device=device, processes=processes
    )
    if (record := run.finished()) is None:
        with alone_in(run.scratch):
            record = run.obtain(lambda _: checkpoint)
    return record
