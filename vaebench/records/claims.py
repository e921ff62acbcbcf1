"""What a record is worth as evidence. A record is never changed: what is known of it stands in small files beside it.

    <run>/imported.json     it came on a card (`vaebench import`): its figures are claimed
    <run>/verified.json     they were measured again since (`vaebench verify` or `reproduce`), and agreed

A record with neither was measured in this folder. A claim that has a rank is one that was verified. What verifies a
record names its digest and comes on no card: `import` takes the files that a record has, none of these, and a folder
that is a card still is a claim whatever else is in it.
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
    """Writes `IMPORTED` or `VERIFIED` beside a record, with the record's digest and a seal over all of it."""
    whole = {**body, "record": record.digest}
    text = json.dumps({**whole, "seal": identity(**whole)}, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(Path(record.path or "") / name, f"{text}\n".encode())


def imported(record: RunRecord) -> bool:
    """Whether a record came on a card, or is in one still; a damaged `imported.json` says so as well."""
    return record.path is not None and any(os.path.lexists(record.path / name) for name in (IMPORTED, CARD))


def verified(record: RunRecord) -> dict[str, Any] | None:
    """How a record was verified: {"how", "class", "environment", ...}; None where nothing sound says so."""
    if record.path is None or os.path.lexists(record.path / CARD):  # a card's own words on itself
        return None
    try:
        body = json.loads(read_file(record.path, VERIFIED, LONGEST))
        seal = body.pop("seal")
        sound = body["record"] == record.digest and seal == identity(**body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return body if sound else None


def claimed(record: RunRecord) -> bool:
    """Whether the figures of a record are only claimed: it was imported, and not verified since."""
    return imported(record) and verified(record) is None
