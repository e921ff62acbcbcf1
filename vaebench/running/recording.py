"""From a checkpoint to a record: evaluation, cost and environment of one run."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebench import evaluation
from vaebench._version import __version__
from vaebench.configuration import own
from vaebench.configuration.parts import name_of
from vaebench.core import Family
from vaebench.errors import UserError
from vaebench.records import RunRecord, fields, identity, run_identity, write_record
from vaebench.records.selection import parsed
from vaebench.running.cost import cost
from vaebench.running.processes import find_device, helper_processes
from vaebench.training.checkpoint import describe
from vaebench.training.models import data_module, load, read_checkpoint

WORK = ".work"  # suffix of the folder of an evaluation's finished pieces


def work_folder(directory: Path) -> Path:
    """The folder of finished pieces of the evaluation whose record goes to `directory`."""
    return directory.with_name(f".{directory.name}{WORK}")


def record_id(run: str, protocol: evaluation.Protocol) -> str:
    """16 hex digits of a run (its configuration, seed and data) and its protocol."""
    return identity(run=run, protocol=protocol.config)


def record_run(
    checkpoint: Path,
    directory: Path,
    request: Mapping[str, Any] | evaluation.Protocol,
    benchmark: str | None = None,
    variant: str | None = None,
    progress: bool = True,
    device: str | None = None,
    processes: int = 1,
    trial: int | None = None,
) -> RunRecord:
    """Evaluates a checkpoint on its own test split and writes the record, with the checkpoint, to `directory`.

    Args:
        checkpoint: of a finished training.
        directory: the record's folder; must not exist.
        request: a protocol, or name, k, seed and the other arguments of `evaluation.read_protocol`.
        benchmark: name of the run's benchmark.
        variant: name of the row on the leaderboard; default: the family's.
        progress: draw a progress bar.
        device: of the evaluation; default: the first GPU, or the CPU without one.
        processes: number of processes that share the images; with GPUs, the i-th uses the i-th GPU.
        trial: number of the sweep's trial, from 0; None outside sweeps.

    An interrupted evaluation resumes where it stopped, from a folder beside `directory` that is then removed.

    Raises:
        UserError: the checkpoint cannot be read, or its data set has changed since it was trained.
    """
    info = account(checkpoint)
    model, data = load(checkpoint), data_module(info["config"]["data"], checkpoint)
    own.require_sources(info["config"], checkpoint)
    if describe(data)["hashes"] != info["data"]["hashes"]:
        raise UserError(
            f"the data set '{data.name}' differs from the one that '{checkpoint}' was trained on: expected equal "
            "hashes of all splits; restore the data or train again"
        )
    start = time.perf_counter()
    protocol = request if isinstance(request, evaluation.Protocol) else evaluation.read_protocol(**request)
    work = work_folder(directory)
    here = find_device(device)
    model.to(here)
    with helper_processes(processes, checkpoint, protocol, work, device):
        report = evaluation.evaluate(model, data, protocol, work=work, progress=progress)
    family = name_of(type(model))
    body = {
        "id": record_id(run_of(info), protocol),
        "family": family,
        "variant": variant or family,
        "benchmark": benchmark,
        "surrogate": model.surrogate,
        **{key: info[key] for key in ("seed", "config", "data", "started_at_mean", "selection", "curves")},
        **texts(info.get("sources") or {}, protocol),
        **results(report),
        "warnings": [*info.get("warnings", []), *report.warnings],
        "cost": cost(model, data, _steps(info["selection"]), protocol) | ({} if trial is None else {"trial": trial}),
        "times": {
            **info.get("machine", {}),
            "started": info["started"],
            "train_seconds": info["train_seconds"],
            "images_per_second": info["images_per_second"],
            "evaluate_seconds": round(time.perf_counter() - start, 3),
        },
        "environment": environment(here),
        "checkpoint": {"file": "model.ckpt", "weights": weights_hash(model)},
    }
    index = data.index("test")[: report.protocol["n"]].numpy()
    record = write_record(directory, body, report.per_image, report.pictures, checkpoint, index)
    shutil.rmtree(work)
    return record


def texts(sources: Mapping[str, str], protocol: evaluation.Protocol) -> dict[str, dict[str, str]]:
    """{"sources": the user's own modules of a run, as JSON, and of its measurements}; nothing where there are none."""
    found = {**sources, **own.as_json(protocol.sources)}
    return {"sources": dict(sorted(found.items()))} if found else {}


def results(report: evaluation.Report) -> dict[str, Any]:
    """The fields of a record that an evaluation fills, but its warnings."""
    return {
        "protocol": report.protocol,
        "metrics": {name: asdict(metric) for name, metric in report.metrics.items()},
        "units": report.units,
        "collapse": report.collapse,
        "tables": report.tables,
    }


def account(checkpoint: Path) -> dict[str, Any]:
    """The information of a checkpoint about its run.

    Raises:
        UserError: there is none, or it lacks fields that a record needs.
    """
    info = read_checkpoint(checkpoint).get("vaebench")
    if info is None:
        raise UserError(f"'{checkpoint}' does not say how it was trained: expected a model.ckpt; use `vaebench fit`")
    if wrong := fields.fault(info, fields.CHECKPOINT) or fields.uneven(info["curves"]):
        raise UserError(f"'{checkpoint}' {wrong}, in what it says of its run; give the model.ckpt of a finished run")
    return {"warnings": [], **info}


def run_of(info: Mapping[str, Any]) -> str:
    """The identity of a checkpoint's run by the current formula, for any version that trained it."""
    return run_identity(info["config"], info["seed"], info["data"]["hashes"])


def _steps(selection: str) -> int:
    """Training steps of a run, by what it says of its weights."""
    found = parsed(selection)
    return found.of or found.step if found else 1


def weights_hash(model: Family) -> str:
    """SHA-256 of all names, types, shapes and values of a model's state, in the order of the names."""
    return state_hash(model.state_dict())


def state_hash(state: Mapping[str, Tensor]) -> str:
    """`weights_hash` of a checkpoint's state, also under names of a former family."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and code that a result on a device depends on; no path, host or user."""
    here = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes())
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kernels": torch.backends.cpu.get_cpu_capability(),  # torch's code path for this CPU, which affects bits
        "lightning": version("lightning"),
        "vaebench": __version__,
        "source": digest.hexdigest(),
        **_commit(here),
        **_gpu(device),
    }


def _gpu(device: torch.device) -> dict[str, Any]:
    """The GPU and its libraries; nothing for other devices. Evaluation never uses TF32; training may."""
    if device.type != "cuda":
        return {}
    return {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "training_products": torch.get_float32_matmul_precision(),
    }


def _commit(folder: Path) -> dict[str, Any]:
    """The commit of the package's checkout, and whether its code has uncommitted changes."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
