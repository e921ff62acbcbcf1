"""Records to Weights & Biases and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from vaebench.configuration.gate import from_elsewhere, vetted_run
from vaebench.errors import UserError
from vaebench.files import take_file, whole_folder
from vaebench.loggers import Logbook, of_record
from vaebench.loggers.server import connected
from vaebench.records import CHECKPOINT, RECORD, RunRecord, read_records
from vaebench.records.claims import IMPORTED, note


def push(results: Path, path: str, work: Path) -> Iterator[tuple[RunRecord, bool]]:
    """Logs every record below a folder as a run, which replaces the run of its training, if any.

    Args:
        results: the folder.
        path: ENTITY/PROJECT.
        work: folder for the files of Weights & Biases.

    Yields:
        Each record, and whether it was logged.

    Raises:
        UserError: there is no record, or one is damaged, or wandb is not installed.
    """
    logbook, records = Logbook(f"wandb:{path}", work), read_records(results)
    if records.damaged:
        raise UserError(f"{records.damaged[0]}; {len(records.damaged)} records are damaged and none was logged")
    for record in records:
        with logbook.open(of_record(record)) as log:
            log.record(record)
            logged = log.open
        yield record, logged


class Pulled(NamedTuple):
    """The result of pulling one run.

    Attributes:
        run: its name.
        directory: of its record; None where there is none.
        new: whether the record was written now.
        reason: why there is no record.
        recorded: whether the run has a record that could not be imported.
    """

    run: str
    directory: Path | None
    new: bool = False
    reason: str = ""
    recorded: bool = True


def pull(path: str, results: Path, checkpoints: bool = False, own: bool = False) -> Iterator[Pulled]:
    """Writes the records of a project's runs to `results/<benchmark or data set>/<run>`; keeps existing ones.

    Records are checked as in any folder, and altered ones refused. They are claims until verified, like those from
    cards, since many people may write to a project.

    Args:
        path: ENTITY/PROJECT.
        results: folder of records.
        checkpoints: fetch the checkpoints too.
        own: treat the records as measured here, not as claims.

    Yields:
        Each run.

    Raises:
        UserError: no key, no such project, or the server does not answer.
    """
    present: dict[str, Path] = {}
    if results.is_dir() and any(results.rglob(RECORD)):
        present = {record.digest: record.path for record in read_records(results) if record.path}
    with connected(path) as (api, entity, project):
        if project not in (known.name for known in api.projects(entity)):
            raise UserError(f"Weights & Biases has no project '{entity}/{project}'; log runs there, or name another")
        source = f"{entity}/{project}"
        for run in api.runs(source, per_page=100, lazy=True):
            artifacts = _latest(run)
            wanted = ("record", "model") if checkpoints else ("record",)
            if lacks := [kind for kind in wanted if kind not in artifacts]:
                yield Pulled(run.name, None, reason=f"it has no {lacks[0]}", recorded=lacks[0] != "record")
            elif (digest := artifacts["record"].metadata.get("digest")) in present:
                yield Pulled(run.name, present[digest])
            else:
                with TemporaryDirectory() as folder:
                    for kind in wanted:
                        artifacts[kind].download(folder, skip_cache=True)
                    yield _kept(run.name, Path(folder), results, present, "" if own else f"{source}/{run.id}")


def _latest(run: Any) -> dict[str, Any]:
    """The latest version of each kind of artifact of a run."""
    versions = sorted(run.logged_artifacts(), key=lambda artifact: int(artifact.version[1:]))
    return {artifact.type: artifact for artifact in versions}


def _kept(run: str, folder: Path, results: Path, present: dict[str, Path], source: str) -> Pulled:
    """Imports a fetched record, if it is sound and new."""
    try:
        records = read_records(folder)
    except UserError as error:
        return Pulled(run, None, reason=str(error))
    if records.damaged:
        return Pulled(run, None, reason=records.damaged[0].reason)
    if len(records) != 1:
        return Pulled(run, None, reason=f"it holds {len(records)} records, where one was expected")
    record = records[0]
    try:
        if not from_elsewhere(record.config):
            vetted_run(record.config, f"record {record.id}")
    except UserError as error:
        return Pulled(run, None, reason=str(error))
    if record.digest in present:
        return Pulled(run, present[record.digest])
    if (link := folder / CHECKPOINT).is_symlink():
        return Pulled(run, None, reason=f"its {link.name} is a link, where the file itself was expected")
    present[record.digest] = place = results / _place(record)
    _keep(record, place, source)
    return Pulled(run, place, new=True)


def _keep(record: RunRecord, place: Path, source: str) -> None:
    """Copies a record byte for byte, with its checkpoint if fetched."""
    assert record.path is not None
    with whole_folder(place) as partial:
        for name in (RECORD, CHECKPOINT, *record.files):
            if name != CHECKPOINT or (record.path / name).is_file():
                take_file(record.path, name, partial)
        if source:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            note(replace(record, path=partial), IMPORTED, {"wandb": source, "at": at})


def _place(record: RunRecord) -> str:
    """`<benchmark or data set>/<variant>-s<seed>-<digest>`, in characters that every file system supports."""
    parts = record.benchmark or record.data["name"], record.variant
    folder, name = (re.sub(r"[^\w=+-]+", "_", str(part))[:60] for part in parts)
    return f"{folder}/{name}-s{record.seed}-{record.digest[:8]}"
