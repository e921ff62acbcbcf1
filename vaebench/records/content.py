"""The content of `record.json`: its bytes, its digest, and its checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vaebench.files import is_plain
from vaebench.records import fields
from vaebench.records.arrays import PER_IMAGE
from vaebench.records.fields import fault
from vaebench.records.identities import canonical


def rendered(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def digest_of(body: Mapping[str, Any]) -> str:
    return sha256(canonical({name: value for name, value in body.items() if name != "digest"}))


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def malformed(body: Mapping[str, Any]) -> str | None:
    """Why a body is not that of a `RunRecord`; None where it is."""
    if wrong := fault(body, fields.RECORD):
        return wrong
    for name in body["files"]:
        if name != PER_IMAGE and not (is_plain(name) and name.endswith(".png")):
            return f"lists {name!r} among its files, which are {PER_IMAGE} and pictures (NAME.png)"
    if len({name.casefold() for name in body["files"]}) < len(body["files"]):
        return "lists files whose names are one to some file systems"
    return fields.uneven(body["curves"])
