"""The status of a record as evidence. Records are immutable; their status is in small files beside them.

    <run>/imported.json     it was imported from a card (`vaebench import`): its metrics are claims
    <run>/verified.json     they have been measured again (`vaebench verify` or `reproduce`), and agreed
    <run>/calibration.json  its training step was timed beside the plain VAE's (`bench --calibrate`); see `calibration`
    <run>/validation.json   what its sweep chose by, of the validation images; see `validation`

A record with neither was measured in this folder. Claims are ranked only once verified. `verified.json` holds the
record's digest and is never imported: `import` only copies the record's files, and a card's own folder is always a
claim.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebench.files import read_file, write_atomically
from vaebench.records.identities import identity
from vaebench.records.reading import LONGEST
from vaebench.records.record import RunRecord

IMPORTED, VERIFIED, CARD = "imported.json", "verified.json", "card.json"


def note(record: RunRecord, name: str, body: Mapping[str, Any]) -> None:
    """Writes a file such as `VERIFIED` beside a record, with the record's digest and a hash of the content."""
    whole = {**body, "record": record.digest}
    text = json.dumps({**whole, "seal": identity(**whole)}, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(Path(record.path or "") / name, f"{text}\n".encode())


def imported(record: RunRecord) -> bool:
    """Whether a record was imported from a card or is in one; a damaged `imported.json` counts as well."""
    return record.path is not None and any(os.path.lexists(record.path / name) for name in (IMPORTED, CARD))


def verified(record: RunRecord) -> dict[str, Any] | None:
    """How a record was verified: {"how", "class", "environment", ...}; None where it was not."""
    return noted(record, VERIFIED)


def data_root(record: RunRecord) -> str | None:
    """Where the images of an imported record are, as its importer said; None where nobody did."""
    root = (noted(record, IMPORTED) or {}).get("root")
    return root if isinstance(root, str) else None


def noted(record: RunRecord, name: str) -> dict[str, Any] | None:
    """What `note` wrote beside a record; None without such a file of this very record."""
    if record.path is None or os.path.lexists(record.path / CARD):  # a card cannot verify itself
        return None
    try:
        body = json.loads(read_file(record.path, name, LONGEST))
        seal = body.pop("seal")
        sound = body["record"] == record.digest and seal == identity(**body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return body if sound else None


def claimed(record: RunRecord) -> bool:
    """Whether the metrics of a record are claims: it was imported, and not verified."""
    return imported(record) and verified(record) is None
