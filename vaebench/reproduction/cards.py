"""Result cards: a run that one researcher exports and another imports.

    <card>/card.md          configuration and results, for people
    <card>/card.json        a summary, with the SHA-256 of every file and of the checkpoint's weights
    <card>/record.json      the original record, and its files: per_image.npz, pictures
    <card>/model.ckpt       the checkpoint, if exported

A card proves nothing by itself: digests detect accidents and careless changes, but a forger can compute them. So an
imported record is a claim until it is verified; see `vaebench.records.claims`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.configuration.gate import from_elsewhere, vetted_run
from vaebench.display.tables import escaped
from vaebench.errors import UserError
from vaebench.files import hash_file, is_plain, open_file, read_file, take_file, whole_folder
from vaebench.records import CHECKPOINT, LONGEST, PER_IMAGE, RECORD, RunRecord, canonical, read_record, read_records
from vaebench.records.claims import CARD, IMPORTED, note

SCHEMA = 1
TEXT = "card.md"
MOST_FILES = 100  # that a card lists
LARGEST = {CARD: LONGEST, TEXT: 2**20, RECORD: LONGEST, PER_IMAGE: 2**28, CHECKPOINT: 2**31}  # bytes of a card's files
PICTURE, PIXELS = 2**24, 2**25  # bytes of any other file, which is a picture, and its pixels
PNG = b"\x89PNG\r\n\x1a\n"


class Card(NamedTuple):
    """A card that was read.

    Attributes:
        folder: where it lies.
        body: of its card.json.
        record: its record, whose path is the folder.
    """

    folder: Path
    body: dict[str, Any]
    record: RunRecord

    @property
    def files(self) -> list[str]:
        """The names of the files that belong to it, without card.json: its text, its record's, and its checkpoint."""
        return sorted({TEXT, RECORD, CHECKPOINT, *self.record.files} & self.body["files"].keys())

    @property
    def strays(self) -> list[str]:
        """The names in its folder that do not belong to it."""
        return sorted(path.name for path in self.folder.iterdir() if path.name not in {CARD, *self.files})


def export_card(record: RunRecord, out: Path, checkpoint: bool = False) -> Path:
    """Writes a record's card to the folder `out`, which must not exist, and returns it.

    Args:
        record: the record.
        out: the card's folder.
        checkpoint: also copy the record's model.ckpt, for verification without training.

    Raises:
        UserError: `out` exists, or a requested checkpoint is missing.
    """
    source = Path(record.path or "")
    if checkpoint and (not (source / CHECKPOINT).is_file() or (source / CHECKPOINT).is_symlink()):
        raise UserError(f"record {record.id} has no {CHECKPOINT} in '{source}'; put it there, or export without")
    with whole_folder(out, "card") as folder:
        for name in (RECORD, *record.files, *([CHECKPOINT] if checkpoint else [])):
            take_file(source, name, folder)
        (folder / TEXT).write_text(card_text(record), encoding="utf-8")
        sums = {path.name: hash_file(folder, path.name) for path in sorted(folder.iterdir())}
        body = {**_summary(record), "files": sums}
        body["digest"] = _digest(body)
        text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False)
        (folder / CARD).write_text(f"{text}\n", encoding="utf-8")
    return out


def import_card(card: Path, results: Path, root: str | None = None) -> tuple[Path, bool]:
    """Imports a card into a folder of records, below `imported/`, as a claim.

    Args:
        card: the card's folder, or its card.json.
        results: the folder of all records.
        root: where the images of its data set are here; noted for `verify` and `reproduce`.

    Returns:
        The record's new folder, and whether it was already imported.

    Raises:
        UserError: as in `read_card`, or the same record was measured here.
    """
    folder, body, record = taken = read_card(card)
    name = re.sub(r"[^\w.=+-]+", "_", record.variant)[:60]
    place = results / "imported" / f"{name}-s{record.seed}-{record.digest[:8]}"
    if place.is_dir() and not _holds(place, record):  # eight digits of another record's digest can be had by trying
        place = place.with_name(card_name(record))
    if place.is_dir():
        return place, True
    own = read_records(results) if results.is_dir() and any(results.rglob(RECORD)) else ()
    if same := [other.path for other in own if other.digest == record.digest]:
        raise UserError(f"'{folder}' holds the very record that is in '{same[0]}': there is nothing to import")
    with whole_folder(place) as partial:
        for file in taken.files:
            take_file(folder, file, partial)
        note(
            replace(record, path=partial),
            IMPORTED,
            {"card": body["digest"], "at": datetime.now(UTC).isoformat(timespec="seconds")}
            | ({} if root is None else {"root": str(Path(root).expanduser().absolute())}),
        )
    return place, False


def read_card(card: Path) -> Card:
    """Reads a card, which may be a stranger's: nothing that it names is imported or called.

    Args:
        card: the card's folder, or its card.json.

    Raises:
        UserError: it is not a card, of another schema, too large, or altered; or its configuration is not admissible
            (`vaebench.configuration.gate`).
    """
    folder = card.parent if card.name == CARD else card
    body, record = _sound(folder)
    if not from_elsewhere(record.config):
        vetted_run(record.config, folder)
    return Card(folder, body, record)


def _holds(place: Path, record: RunRecord) -> bool:
    """Whether a folder holds this very record."""
    try:
        return read_record(place).digest == record.digest
    except UserError:
        return False


def card_name(record: RunRecord) -> str:
    """The name of a record's card where many lie together: letters that every file system and address takes.

    Its 16 digits are of the record's digest, so that no two records share it and nobody can choose another's.
    """
    name = re.sub(r"[^A-Za-z0-9_=+-]+", "_", record.variant)[:60].strip("_-") or "run"
    return f"{name}-s{record.seed}-{record.digest[:16]}"


def most_bytes(name: str) -> int:
    """The largest size of a card's file, bytes."""
    return LARGEST.get(name, PICTURE)


def _require_size(folder: Path, name: str) -> None:
    """Checks that a file of a card is not larger than such files are, and that a picture is one."""
    most = most_bytes(name)
    with open_file(folder, name) as file:
        size, head = file.seek(0, 2), b""
        if name not in LARGEST:
            file.seek(0)
            head = file.read(24)
    if size > most:
        raise UserError(f"'{folder}/{name}' has {size:,} bytes, where a card has at most {most:,}; export it again")
    if name.endswith(".png"):
        width, height = (int.from_bytes(head[start : start + 4], "big") for start in (16, 20))
        if not head.startswith(PNG) or not 0 < width * height <= PIXELS:
            raise UserError(f"'{folder}/{name}' is no PNG of at most {PIXELS:,} pixels; export the card again")


def _sound(folder: Path) -> tuple[dict[str, Any], RunRecord]:
    """A card's JSON and its record, after checking every file in it."""
    ask = "ask its author for it again"
    try:
        body = json.loads(read_file(folder, CARD, LONGEST))
        schema, digest = body["card"], body["digest"]
        files = {str(name): str(checksum) for name, checksum in body["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"cannot be read ({error})" if isinstance(error, OSError | ValueError) else "lacks what a card says"
        raise UserError(
            f"'{folder}' is not a card: its {CARD} {reason}; give a folder that `vaebench export` wrote"
        ) from None
    if schema != SCHEMA:
        raise UserError(f"'{folder}' is a card of schema {schema!r:.60}, not {SCHEMA}; update vaebench or {ask}")
    if digest != _digest(body):
        raise UserError(f"'{folder}/{CARD}' is not what was exported: its digest does not match; {ask}")
    if len(files) > MOST_FILES:
        raise UserError(f"'{folder}/{CARD}' lists {len(files):,} files, where a card has at most {MOST_FILES}; {ask}")
    for name, checksum in sorted(files.items(), key=lambda item: is_plain(item[0])):  # what is no plain name first
        try:
            _require_size(folder, name)
            actual = hash_file(folder, name)
        except OSError as error:
            raise UserError(
                f"'{folder}/{name if is_plain(name) else repr(name)}' is not what was exported: it cannot be read "
                f"({error.strerror}); {ask}"
            ) from None
        if actual != checksum:
            raise UserError(f"'{folder}/{name}' is not what was exported: its SHA-256 does not match; {ask}")
    try:
        record = read_record(folder)
    except UserError as error:
        raise UserError(f"'{folder}' holds no sound record ({error}); {ask}") from None
    if lacks := sorted({RECORD, *record.files} - files.keys()):
        raise UserError(f"'{folder}/{CARD}' does not list {lacks[0]}, which its record has; {ask}")
    if canonical(_summary(record)) != canonical({name: body[name] for name in body if name not in ("files", "digest")}):
        raise UserError(f"'{folder}/{CARD}' says other things than the record beside it; {ask}")
    return body, record


def _summary(record: RunRecord) -> dict[str, Any]:
    """A summary of a record."""
    names = ("id", "family", "variant", "benchmark", "seed", "config", "data", "selection", "environment")
    keys = ("value", "se", "unit", "n", "unavailable")
    return {
        "card": SCHEMA,
        **{name: getattr(record, name) for name in names},
        "protocol": {name: record.protocol[name] for name in ("version", "k", "n")},
        "metrics": {n: {key: metric.get(key) for key in keys} for n, metric in record.metrics.items()},
        "weights": (record.checkpoint or {}).get("weights"),
    }


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical({name: body[name] for name in body if name != "digest"})).hexdigest()


def card_text(record: RunRecord, take: str = "vaebench import THIS_FOLDER --results results") -> str:
    """The card as Markdown, in which all texts of the record are text.

    Args:
        record: of the card.
        take: the command that takes it into a folder of records.
    """
    environment, weights = record.environment, (record.checkpoint or {}).get("weights")
    changed = ", with changes that are in no commit" if environment.get("dirty") else ""
    facts = {
        "family": escaped(record.family),
        "benchmark": escaped(record.benchmark or "none"),
        "seed": record.seed,
        "data": f"{_data(record)}, {escaped(record.data['measure'])}, {' × '.join(map(str, record.data['shape']))}",
        **{f"{escaped(split)} split": _code(checksum) for split, checksum in record.data["hashes"].items()},
        "protocol": f"version {record.protocol['version']}, K = {record.protocol['k']}, {record.protocol['n']} images",
        "checkpoint": escaped(record.selection),
        "SHA-256 of the weights": _code(weights) if weights else "none",
        "commit": f"{escaped(str(environment.get('commit') or 'none'))}{changed}",
        "Python, torch": escaped(f"{environment.get('python')}, {environment.get('torch')}"),
        "record": f"{_code(record.id)}, digest {_code(record.digest)}",
    }
    metrics = [
        f"| {escaped(name)} | {_figure(metric, 'value')} | {_figure(metric, 'se')} | {_unit(metric)} |"
        for name, metric in sorted(record.metrics.items())
    ]
    return "\n".join(
        [
            f"# {escaped(record.variant)}, seed {record.seed}, on {_data(record)}",
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
            "| metric | value | ± s.e. over images | unit |",
            "| :-- | --: | --: | :-- |",
            *metrics,
            "",
            f"Per-image figures are in `{PER_IMAGE}`, the configuration in `{RECORD}`. To take this result into a",
            "folder of records, where it ranks only after it was verified:",
            "",
            f"    {take}",
            "",
        ]
    )


def _figure(metric: dict[str, Any], key: str) -> str:
    value = metric.get(key)
    if value is not None:
        return f"{value:.6g}"
    return f"unavailable: {escaped(metric.get('unavailable') or 'not measured')}" if key == "value" else ""


def _data(record: RunRecord) -> str:
    return escaped(record.data["name"])


def _unit(metric: dict[str, Any]) -> str:
    return escaped(metric.get("unit") or "")


def _code(text: str) -> str:
    """A text as code, in which Markdown reads nothing but the mark that would end it."""
    return f"`{text.replace('`', '')}`"
