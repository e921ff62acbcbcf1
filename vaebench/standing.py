"""What a record is worth as evidence. A record is never changed: what is known of it stands in small files beside it.

    <run>/imported.json     it came on a card (`vaebench import`): its figures are claimed
    <run>/verified.json     they were measured again since (`vaebench verify` or `reproduce`), and agreed

A record with neither was measured in this folder. A claim that has a rank is one that was verified.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaebench.files import write_atomically
from vaebench.records import RunRecord, identity

IMPORTED, VERIFIED = "imported.json", "verified.json"


def note(record: RunRecord, name: str, body: Mapping[str, Any]) -> None:
    """Writes `IMPORTED` or `VERIFIED` beside a record, with the record's digest and a seal over all of it."""
    whole = {**body, "record": record.digest}
    text = json.dumps({**whole, "seal": identity(**whole)}, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(Path(record.path or "") / name, f"{text}\n".encode())


def imported(record: RunRecord) -> bool:
    """Whether a record came on a card; a damaged `imported.json` says so as well."""
    return record.path is not None and (record.path / IMPORTED).exists()


def verified(record: RunRecord) -> dict[str, Any] | None:
    """How a record was verified: {"how", "class", "environment", ...}; None where nothing sound says so."""
    if record.path is None:
        return None
    try:
        body = json.loads((record.path / VERIFIED).read_bytes())
        seal = body.pop("seal")
        sound = body["record"] == record.digest and seal == identity(**body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return body if sound else None


def claimed(record: RunRecord) -> bool:
    """Whether the figures of a record are only claimed: it was imported, and not verified since."""
    return imported(record) and verified(record) is None
