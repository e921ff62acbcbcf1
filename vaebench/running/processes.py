"""Several processes for one evaluation, each of which takes unclaimed shards."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vaebench import evaluation
from vaebench.configuration.registered import move_data, moved, trust, trusted
from vaebench.errors import UserError
from vaebench.training.models import data_module, load, read_checkpoint


def find_device(device: str | None) -> torch.device:
    """The device of a name; default: the first GPU, or the CPU without one.

    Raises:
        UserError: there is no such device.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        have = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(
            f"device '{device}' is not here: expected one of {', '.join(have)}; give --device one"
        ) from error
    return chosen


@contextmanager
def helper_processes(
    processes: int, checkpoint: Path, protocol: evaluation.Protocol, work: Path, device: str | None = None
) -> Iterator[None]:
    """Runs a block while `processes` − 1 helper processes evaluate the same checkpoint into the same folder.

    A helper may die, since its claims end with it. On a CPU all processes share the threads.

    Args:
        processes: number of processes, with this one.
        checkpoint: of the model.
        protocol: of the evaluation.
        work: folder of the finished pieces.
        device: of the first process; the others use the following GPUs in turn.

    Raises:
        UserError: fewer than one process.
    """
    if processes < 1:
        raise UserError(
            f"{processes} processes cannot evaluate anything: expected at least 1; give --processes 1 or more"
        )
    here = find_device(device)
    threads = torch.get_num_threads()
    share = max(1, threads // processes) if here.type == "cpu" else threads
    context = multiprocessing.get_context("spawn")
    others = []
    for index in range(1, processes):
        name = "cpu" if here.type == "cpu" else f"cuda:{((here.index or 0) + index) % torch.cuda.device_count()}"
        given = (checkpoint, protocol, work, name, share, trusted(), moved())
        others.append(context.Process(target=_help, args=given, daemon=True))
    try:
        torch.set_num_threads(share)
        for other in others:
            other.start()
        yield
    finally:
        torch.set_num_threads(threads)
        for other in others:
            other.terminate()
            other.join()


def _help(
    checkpoint: Path, protocol: evaluation.Protocol, work: Path, device: str, threads: int, names: tuple[str, ...],
    root: str | None,
) -> None:  # fmt: skip
    trust(*names)
    if root is not None:
        move_data(root)
    torch.set_num_threads(threads)
    model = load(checkpoint).to(device)
    data = data_module(read_checkpoint(checkpoint)["vaebench"]["config"]["data"])
    evaluation.evaluate(model, data, protocol, work=work, progress=False)
