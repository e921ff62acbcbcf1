"""Grouping of runs into variants, with distinct names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vaebench.configuration.parts import canonical_config
from vaebench.records import RunRecord, canonical, leaves, seedless, setting_identity


def variants(records: Iterable[RunRecord]) -> dict[str, tuple[RunRecord, ...]]:
    """Runs that differ only in the seed, under unique names."""
    settings: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=lambda r: (r.seed, str(r.path))):
        setting = setting_identity(record.family, record.config)
        settings.setdefault(record.variant, {}).setdefault(setting, []).append(record)
    named: dict[str, tuple[RunRecord, ...]] = {}
    for variant, runs in settings.items():
        for setting, name in _names(variant, {s: group[0].config for s, group in runs.items()}).items():
            named[name if name not in named else f"{name} #{setting}"] = tuple(runs[setting])
    return named


def _names(variant: str, configs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """A name for each setting of one variant: its own, or with up to three of the values in which they differ."""
    if len(configs) == 1:
        return dict.fromkeys(configs, variant)
    flat = {setting: dict(leaves(canonical_config(seedless(config)))) for setting, config in configs.items()}
    keys = sorted(set().union(*flat.values()))
    shown = [key for key in keys if len({canonical(values.get(key)) for values in flat.values()}) > 1][:3]
    names = {
        setting: ", ".join(f"{key.rpartition('.')[2]} = {values.get(key)}" for key in shown)
        for setting, values in flat.items()
    }
    unique = len(set(names.values())) == len(names)
    return {setting: f"{variant} ({name if unique else setting[:6]})" for setting, name in names.items()}
