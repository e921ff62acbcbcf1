"""Identities of runs: hashes of everything that determines a result, in canonical form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from vaebench.configuration.parts import canonical_config

SCHEMA = 3  # of records
SEEDS = ("seed", "seed_everything")  # settings that runs of one variant may differ in


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no whitespace, floats as Python's repr; ValueError if not finite.

    >>> canonical({"b": 0.1, "a": [1, None]})
    b'{"a":[1,null],"b":0.1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def identity(**determinants: Any) -> str:
    """16 hex digits of a hash of all arguments."""
    return hashlib.sha256(canonical(determinants)).hexdigest()[:16]


def foreign_identity(config: Mapping[str, Any], weights: str | None, seed: int, hashes: Mapping[str, str]) -> str:
    """The same as `run_identity` for a model from elsewhere.

    Args:
        config: what its record keeps of it: {"model"}, and {"sources"} where code of the user's own built it.
        weights: SHA-256 of its state; None where it has none.
        seed: that it was trained with; 0 where nobody said.
        hashes: SHA-256 of the data's splits.
    """
    return identity(model=config["model"], sources=config.get("sources"), weights=weights, seed=seed, data=hashes)


def run_identity(config: Mapping[str, Any], seed: int, hashes: Mapping[str, str], schema: int = SCHEMA) -> str:
    """16 hex digits of everything that determines a training; with the protocol, it determines a record's `id`.

    Args:
        config: every setting, defaults included: {"model", "data", "trainer"}. The suite's classes enter by canonical
            name, independent of their modules, others by class path.
        seed: of the run.
        hashes: SHA-256 of the data's splits.
        schema: of the record; ids before schema 3 contain class paths.
    """
    return identity(config=canonical_config(config) if schema > 2 else config, seed=seed, data=hashes)


def setting_identity(family: str, config: Mapping[str, Any]) -> str:
    """16 hex digits of a setting, shared by runs that differ only in their seeds."""
    return identity(family=family, config=canonical_config(seedless(config)))


def seedless(config: Any) -> Any:
    """A configuration without its seeds."""
    if isinstance(config, Mapping):
        return {name: seedless(value) for name, value in config.items() if name not in SEEDS}
    return config


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by their dotted names.

    >>> dict(leaves({"model": {"beta": 2, "net": {}}, "seed": 0}))
    {'model.beta': 2, 'model.net': {}, 'seed': 0}
    """
    if not isinstance(value, Mapping) or not value:
        yield path, value
    else:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
