"""Repetition of a record: retrained and re-evaluated from the record alone, or re-evaluated from its checkpoint."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import yaml

from vaebench.adapters import open_adapter
from vaebench.configuration.gate import from_elsewhere, vetted_run
from vaebench.configuration.own import require_sources
from vaebench.configuration.parts import placeless
from vaebench.configuration.registered import move_data, moved
from vaebench.data._given import GivenImages
from vaebench.errors import UserError
from vaebench.evaluation import Protocol
from vaebench.evaluation.protocol import recorded_protocol
from vaebench.files import alone_in, write_atomically
from vaebench.loggers import Log
from vaebench.records import CHECKPOINT, RunRecord, identity, leaves, run_identity
from vaebench.records.claims import data_root
from vaebench.running.foreign import record_foreign, weights_of
from vaebench.running.processes import find_device
from vaebench.running.recording import environment, state_hash, work_folder
from vaebench.running.run import Run
from vaebench.training.experiment import experiment
from vaebench.training.models import data_module, read_checkpoint
from vaebench.training.population import Population
from vaebench.training.progress import training_bar
from vaebench.training.solo import train

if TYPE_CHECKING:
    from vaebench.data.base import ImageData
    from vaebench.training.experiment import Experiment


class OtherDataError(UserError):
    """The data differ from those of the record, so that metrics cannot be compared."""


def reproduce_record(record: RunRecord, out: Path, progress: bool = True, device: str | None = None) -> RunRecord:
    """Retrains and re-evaluates from the record's configuration, seed and protocol.

    It uses the record's number of threads, since sums depend on it. An interrupted repetition resumes; a finished one
    of the same record, code and machine in `out` is not repeated.

    Args:
        record: the record.
        out: folder of new records and unfinished runs.
        progress: draw progress bars.
        device: of the evaluation; default: the record's kind of device.

    Returns:
        The new record, in its folder below `out`.

    Raises:
        OtherDataError: the data have other hashes than in the record.
        UserError: this code cannot train or evaluate it.
    """
    _find_data(record)
    config = vetted_run(record.config, _source(record))
    data = _data(record)
    protocol = _protocol(record, data)
    job = _job(record, config)
    with _threads(record):
        directory = out / _name(record, "reproduced", device)
        scratch = directory.with_name(f".{directory.name}.run")
        run = _run(record, job.identity(data), protocol, directory, scratch, progress, device)

        def trained(_: Log) -> Path:
            with training_bar(f"{record.variant} seed {record.seed}", progress) as bar:
                return _trained(job, scratch, bar)

        with alone_in(scratch):
            return _obtained(run, trained)


def verify_record(
    record: RunRecord, checkpoint: Path | None, out: Path, progress: bool = True, device: str | None = None
) -> RunRecord:
    """Evaluates the record's checkpoint again, without training.

    Args:
        record: the record.
        checkpoint: the file; default: model.ckpt beside the record.
        out, progress, device: as in `reproduce_record`.

    Returns:
        The new record, in its folder below `out`.

    Raises:
        OtherDataError: the data have other hashes than in the record.
        UserError: there is no checkpoint, or its weights or configuration differ from the record.
    """
    _find_data(record)
    config = vetted_run(record.config, _source(record))
    path = checkpoint or Path(record.path or "", CHECKPOINT)
    if checkpoint is None and (not path.is_file() or path.is_symlink()):
        raise UserError(
            f"record {record.id} has no {CHECKPOINT} in '{record.path}': give --checkpoint FILE, or train it again "
            "with `vaebench reproduce`"
        )
    _check(record, path, config)
    protocol = _protocol(record, _data(record))
    with _threads(record):
        directory = out / _name(record, "verified", device)
        number = run_identity(record.config, record.seed, record.data["hashes"])
        run = _run(record, number, protocol, directory, work_folder(directory), progress, device)
        return _obtained(run, lambda _: path)


def verify_foreign(
    record: RunRecord, adapter: str, out: Path, progress: bool = True, device: str | None = None
) -> RunRecord:
    """Evaluates the model of a record from elsewhere again, which the user hands over again.

    Args:
        record: the record.
        adapter: the model, as `vaebench evaluate --adapter` takes it.
        out, progress, device: as in `reproduce_record`.

    Returns:
        The new record, in a folder below `out`.

    Raises:
        OtherDataError: the data have other hashes than in the record.
        UserError: the record is of a model of vaebench's, or of images that no record keeps; there is no such model, or
            it has other weights.
    """
    if not from_elsewhere(record.config):
        raise UserError(
            f"record {record.id} is of a model of vaebench's: expected one that was trained elsewhere beside "
            "--adapter; leave it out"
        )
    if record.config["data"]["class_path"] == f"{GivenImages.__module__}.{GivenImages.__qualname__}":
        raise UserError(
            f"record {record.id} was measured on images that Python handed over, which no record keeps: expected a "
            "data set; hand them to vb.record again with another folder of results, and compare the two records"
        )
    _find_data(record)
    data = _data(record)
    foreign = open_adapter(adapter, data.spec)
    recorded, own = (record.checkpoint or {}).get("weights"), weights_of(foreign.model)
    if own != recorded:
        raise UserError(
            f"the model of '{adapter}' is not the one that record {record.id} measured: its weights have the SHA-256 "
            f"{str(own)[:16]}…, those of the record {str(recorded)[:16]}…; give that very model"
        )
    seed = None if "weights" in record.config["model"]["init_args"] else record.seed
    with _threads(record):
        folder, protocol = out / _name(record, "verified", device), _protocol(record, data)
        return record_foreign(
            foreign, data, folder, protocol, record.variant, seed, progress, device_of(record, device)
        )


def _check(record: RunRecord, checkpoint: Path, config: Mapping[str, Any]) -> None:
    """Checks that a checkpoint is that of the record; `config` is the record's vetted configuration."""
    content = read_checkpoint(checkpoint)
    recorded, own = (record.checkpoint or {}).get("weights"), state_hash(content["state_dict"])
    if own != recorded:
        raise UserError(
            f"'{checkpoint}' is not the checkpoint that record {record.id} measured: its weights have the SHA-256 "
            f"{own[:16]}…, those of the record {str(recorded)[:16]}…; give the {CHECKPOINT} of that very run"
        )
    info: Mapping[str, Any] = content.get("vaebench") or {}
    says = [dict(leaves({"config": {**c, "data": placeless(c["data"])} if c else c, "seed": s, "hashes": h}))
            for c, s, h in (
        (info.get("config"), info.get("seed"), (info.get("data") or {}).get("hashes")),
        (config, record.seed, record.data["hashes"]),
    )]  # fmt: skip
    if wrong := sorted(name for name in {*says[0], *says[1]} if says[0].get(name) != says[1].get(name)):
        raise UserError(
            f"'{checkpoint}' holds the weights of record {record.id} but was trained otherwise than the record says: "
            f"{wrong[0]} is {says[0].get(wrong[0])!r} there and {says[1].get(wrong[0])!r} in the record, where both "
            "should agree; one of the two was changed"
        )


def _find_data(record: RunRecord) -> None:
    """Looks for the data of a record where the user said that they are, now or when it was imported."""
    if moved() is None and (root := data_root(record)) is not None:
        move_data(root)


def _data(record: RunRecord) -> ImageData:
    """The data of a record, checked against its hashes."""
    data = data_module(record.config["data"], _source(record))
    recorded, actual = record.data["hashes"], data.hashes
    if wrong := [split for split in sorted({*recorded, *actual}) if recorded.get(split) != actual.get(split)]:
        raise OtherDataError(
            f"the data set '{data.name}' is not the one that record {record.id} was trained and measured on: the "
            f"hashes of {' and '.join(wrong)} differ, where all should be equal; restore the data it had"
        )
    return data


def _protocol(record: RunRecord, data: ImageData) -> Protocol:
    """The protocol of a record."""
    try:
        return recorded_protocol(record.protocol, data.sizes["test"])
    except UserError as error:
        commit = record.environment.get("commit")
        raise UserError(f"record {record.id} cannot be measured again: {error} ({commit or 'none'})") from None


def _source(record: RunRecord) -> str:
    return f"record {record.id}"


def _job(record: RunRecord, config: Mapping[str, Any]) -> Experiment:
    """The run of a record, parsed by this code from the vetted configuration."""
    devices, nodes = (config["trainer"].get(name, 1) for name in ("devices", "num_nodes"))
    if {str(devices), str(nodes)} - {"1", "auto"}:
        raise UserError(
            f"record {record.id} was trained on {devices} devices and {nodes} nodes together, where one is expected: "
            "train it with `torchrun` and `vaebench fit`, and evaluate that checkpoint"
        )
    if (chosen := record.measured) and chosen.kept == "best" and chosen.began is None and not chosen.last:
        raise UserError(
            f"record {record.id} measures the weights of the best held-out bound of any step ({record.selection}), "
            "which this code chooses no more: expected the last, or the best held-out objective; check out commit "
            f"{record.environment.get('commit') or 'of its version'} to reproduce it, or verify its checkpoint"
        )
    with TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        trained = {name: value for name, value in config.items() if name not in ("engine", "sources")}
        write_atomically(file, yaml.safe_dump(trained).encode())
        try:
            job = experiment([f"--config={file}", f"--seed_everything={record.seed}"])
        except UserError as error:
            raise UserError(f"record {record.id} cannot be trained by this code: {error}") from None
    job.config.pop("config", None)  # a temporary file, whose content is in the other keys
    if "engine" in config:
        job.engine = {"engine": config["engine"]}
    require_sources(config, _source(record))
    return job


def _trained(job: Experiment, scratch: Path, bar: Callable[[float, Mapping[str, float]], None]) -> Path:
    """The checkpoint of a run, trained as originally: solo or in a population."""
    if not job.engine:
        return train(job, scratch, bar)
    population = Population(find_device(None), lanes=1, order=job.engine["engine"]["order"])
    member = population.add(job, scratch)
    while population.epoch():
        bar(member.fraction, {})
    return member.export()


def _run(
    record: RunRecord, identity: str, protocol: Protocol, directory: Path, scratch: Path, progress: bool,
    device: str | None,
) -> Run:  # fmt: skip
    """The repetition of a record, as a run with its own folder."""
    return Run(identity, protocol, directory, scratch, record.benchmark, record.variant, progress=progress,
               device=device_of(record, device))  # fmt: skip


def _obtained(run: Run, train: Callable[[Log], Path]) -> RunRecord:
    """The record of a repetition; prints a note where it already exists."""
    if (before := run.finished()) is not None:
        print(f"{run.directory} was finished before; delete its folder to make it again", file=sys.stderr)
        return before
    return run.obtain(train)


def device_of(record: RunRecord, given: str | None) -> str:
    """The device of a repetition: as given, else the record's kind if available, otherwise the default."""
    return str(find_device(given or ("cpu" if record.cost.get("device") == "cpu" else None)))


def _name(record: RunRecord, how: str, device: str | None) -> str:
    """A folder's name for one record, code and machine, so that results of other code are not reused."""
    place = device_of(record, device)
    family = re.sub(r"[^\w+=-]+", "_", record.family)[:60]
    here = environment(torch.device(place))
    return f"{how}-{family}-s{record.seed}-{identity(of=record.digest, environment=here, device=place)[:8]}"


@contextmanager
def _threads(record: RunRecord) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(int(record.cost.get("threads") or before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
