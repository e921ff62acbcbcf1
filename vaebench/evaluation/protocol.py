"""Protocols: named sets of measurements with all their settings, so that models are evaluated in the same way.

A protocol is a YAML file; those in `protocols/` have short names. A measurement is a module in `measurements/` with

    KINDS: dict[str, MetricKind]                                      the metrics that it can give
    def measure(subject: Subject, findings: Findings, **settings) -> None

and is discovered in that folder: adding one takes a new file and no registration. A measurement of the user's own has
any other name, and its class or function: `sharpness: {class_path: mymodule.Sharpness, init_args: {…}}`.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from vaebench.configuration.discovery import protocols
from vaebench.configuration.source import Source
from vaebench.errors import UserError, unknown
from vaebench.evaluation import own_code
from vaebench.evaluation.conditions import check_count
from vaebench.evaluation.own_code import SOURCES, OwnMeasurement

VERSION = 2  # of all definitions and thresholds; results of different versions are not ranked together
HERE = Path(__file__).parent
DEFAULT = "likelihood"
SHORTHANDS = ("k", "precision", "compile", "chunk")  # settings of `likelihood` that may be given without the prefix
CHANGES = ("name", "seed", "limit", "measurements")
KEYS = {"description", "seed", "limit", "measurements"}


@dataclass(frozen=True)
class Protocol:
    """How a model is measured.

    Attributes:
        name: of the file it was read from.
        seed: of all noise.
        limit: number of test images; None uses all.
        measurements: settings of each measurement, defaults included, in their order; of those that run code of the
            user's own with the SHA-256 of its modules.
    """

    name: str
    seed: int
    limit: int | None
    measurements: dict[str, dict[str, Any]]

    @property
    def config(self) -> dict[str, Any]:
        """All that determines a result, JSON-serialisable; k counts importance samples, 0 where none are drawn."""
        k = self.measurements.get("likelihood", {}).get("k", 0)
        return {"version": VERSION, "name": self.name, "seed": self.seed, "limit": self.limit, "k": k,
                "measurements": self.measurements}  # fmt: skip

    @property
    def sources(self) -> dict[str, str]:
        """The texts of the user's own modules that it runs, by name."""
        return own_code.texts(self.measurements)


def measurements() -> list[str]:
    """Names of all measurements, found without importing any."""
    return sorted(m.name for m in pkgutil.iter_modules([str(HERE / "measurements")]) if m.name[0] != "_")


def measurement(name: str) -> ModuleType:
    """The module of a measurement.

    Raises:
        UserError: there is none of that name.
    """
    if name not in measurements():
        raise unknown("measurement", name, measurements(), f"There are {', '.join(measurements())}.")
    return importlib.import_module(f"vaebench.evaluation.measurements.{name}")


def opened(name: str, settings: Mapping[str, Any]) -> tuple[ModuleType | OwnMeasurement, dict[str, Any]]:
    """A measurement with its own `KINDS` and `measure`, and the settings that this takes.

    Args:
        name: in a protocol.
        settings: as in `Protocol.measurements`.

    Raises:
        UserError: code of the user's own is no measurement.
    """
    if "class_path" in settings:
        return own_code.own_measurement(name, settings), {}
    return measurement(name), {key: value for key, value in settings.items() if key != SOURCES}


def read_protocol(
    name: str | Path = DEFAULT,
    seed: int | None = None,
    limit: int | None = None,
    measurements: Mapping[str, Mapping[str, Any] | None] | None = None,
    **shorthands: Any,
) -> Protocol:
    """A protocol by its name or file, with changes.

    Args:
        name: one of `names()`, or a YAML file.
        seed: of all noise; default: the protocol's.
        limit: use the first `limit` test images; default: the protocol's.
        measurements: settings to change and measurements to add, by name; None removes a measurement.
        shorthands: k, precision, compile and chunk of the measurement `likelihood`.

    Raises:
        UserError: no such protocol, measurement or setting, or a file that is not one.
    """
    body = _read(name)
    own_code.remember(measurements)
    chosen = {key: _table(name, key, value) for key, value in body["measurements"].items()}
    if measurements is not None and not isinstance(measurements, Mapping):
        raise UserError(
            f"measurements are {measurements!r}, where a table of measurements and their settings is expected; give "
            "one such as {ais: {chains: 8}}"
        )
    for key, changes in (measurements or {}).items():
        if changes is None:
            chosen.pop(key, None)
        else:
            chosen[key] = {**chosen.get(key, {}), **_table(name, key, changes)}
    for key, value in shorthands.items():
        if key not in SHORTHANDS:
            raise unknown("key", key, [*SHORTHANDS, *CHANGES], "It stands in a protocol.")
        if value is not None:
            chosen.setdefault("likelihood", {})[key] = value
    limit = body.get("limit") if limit is None else limit
    if limit is not None:
        check_count("limit", limit)
    seed = body.get("seed", 0) if seed is None else seed
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(f"seed is {seed!r}, where a whole number is expected; give seed such a value")
    if not chosen:
        raise UserError(f"'{name}' measures nothing: expected one measurement at least, such as 'likelihood: {{}}'")
    own_code.require_named(chosen, name)
    return Protocol(Path(name).stem, seed, limit, {key: _settings(key, given) for key, given in chosen.items()})


def recorded_protocol(protocol: Mapping[str, Any], images: int) -> Protocol:
    """The protocol that a record was measured by.

    Args:
        protocol: the protocol section of the record.
        images: size of the test split. A record of fewer images used the first ones, and stores a limit of its own
            only where there were fewer still.

    Raises:
        UserError: it is of another version, or has a measurement or setting that no longer exists.
    """
    if protocol.get("version") != VERSION:
        raise UserError(
            f"it was measured by version {protocol.get('version')} of the protocols and this vaebench has {VERSION}, "
            "whose definitions differ: expected the same version; check out the commit that the record names"
        )
    limit = protocol.get("limit", protocol["n"] if protocol["n"] < images else None)
    own_code.require_named(protocol["measurements"], "the record")
    chosen = {key: _settings(key, given) for key, given in protocol["measurements"].items()}
    for key, given in protocol["measurements"].items():
        if given.get(SOURCES) != chosen[key].get(SOURCES):
            raise UserError(
                f"the code of its measurement '{key}' is not the one that is here: expected modules of equal SHA-256; "
                "take the text that the record has under sources"
            )
    return Protocol(protocol["name"], protocol["seed"], limit, chosen)


def _read(name: str | Path) -> dict[str, Any]:
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else HERE / "protocols" / f"{name}.yaml"
    if not path.is_file():
        raise unknown("protocol", str(name), protocols(), "Give one of these names, or a YAML file.")
    body = Source(path, "protocol").content
    if not isinstance(body, dict) or not isinstance(body.get("measurements"), dict):
        raise UserError(f"'{path}' has no measurements: expected 'measurements:' with names such as 'likelihood: {{}}'")
    for key in body:
        if key not in KEYS:
            raise unknown("key", str(key), KEYS, f"It stands in {path}.")
    return body


def _table(protocol: str | Path, measurement: str, settings: Any) -> dict[str, Any]:
    """A copy of the settings of a measurement; refuses anything but a table."""
    if not isinstance(settings, Mapping | None):
        raise UserError(
            f"'{protocol}' gives {measurement} {settings!r}: expected a table of settings such as {{k: 1000}}, or {{}}"
        )
    return dict(settings or {})


def _settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a measurement: the given ones, and the defaults of its function.

    Settings in `LATER`, added after records were made, are included only where they differ from their defaults, so
    that ids of records do not change.
    """
    if "class_path" in given:
        return _own_settings(name, given)
    module = measurement(name)
    parameters = list(inspect.signature(module.measure).parameters.values())[2:]
    known = {p.name: p.default for p in parameters}
    for key, value in given.items():
        if key == SOURCES:
            continue
        if key not in known:
            raise unknown("setting", key, known, f"It is given to the measurement '{name}'.")
        if not _is_finite(value):
            raise UserError(f"{name}.{key} is {value}, where finite numbers are expected; give it such a value")
        check_type = type(known[key])
        if check_type is int:
            check_count(f"{name}.{key}", value)
        if check_type is bool and not isinstance(value, bool):
            raise UserError(f"{name}.{key} is {value!r}, where true or false is expected; give it one of them")
    late = getattr(module, "LATER", ())
    settings = {key: value for key, value in {**known, **given}.items() if key != SOURCES}
    kept = {key: value for key, value in settings.items() if key not in late or value != known[key]}
    return {**kept, **own_code.hashes(kept)}


def _own_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a measurement of the user's own, with the SHA-256 of its modules."""
    if not name.isidentifier() or name in measurements():
        raise UserError(
            f"a measurement of your own is called '{name}': expected letters and _, and a name that none of the "
            "suite's has; give it another"
        )
    if not _is_finite(given):
        raise UserError(f"{name}.init_args hold a number that is not finite, which no record can store; mend it")
    settings = own_code.own_settings(name, given)
    settings |= own_code.hashes(settings)
    own_code.own_measurement(name, settings)  # refuses it before anything is measured
    return settings


def _is_finite(value: Any) -> bool:
    """Whether all numbers in a value are finite, so that a record can store it."""
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
