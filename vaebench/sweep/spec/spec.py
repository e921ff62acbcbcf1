"""A sweep file, read and validated: search space, objectives, and stop rules.

`read_sweep` refuses mistakes that show without torch; `check` then builds every corner of the search space.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaebench.configuration.seeds import LARGEST, is_seed
from vaebench.configuration.source import Source, argument, config_file
from vaebench.curves import BOUND, LIKELIHOOD, VAL
from vaebench.errors import UserError, unknown
from vaebench.files import require_folder_name
from vaebench.records import identity
from vaebench.records.validation import COMBINE, MAXIMISE, MINIMISE
from vaebench.sweep.spec.methods import PRUNERS, SAMPLERS, Pruner, Sampler
from vaebench.sweep.spec.space import Space, read_space

KEYS = ("sweep", "configs", "overrides", "space", "sampler", "pruner", "objectives", "constraints", "seeds", "combine",
        "stop", "protocol", "engine", "heartbeat")  # fmt: skip
STOPS = ("trials", "hours", "stalled")
DEFAULTS: dict[str, Any] = {"objectives": {LIKELIHOOD: MAXIMISE}, "protocol": {"name": "refined_quick"}}
RELATION = re.compile(r"\s*([\w/.]+)\s*(>=|<=|==|!=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric of the validation images, or a required or excluded verdict."""

    figure: str
    relation: str  # >=, <=, == or !=
    limit: float | str

    def violation(self, value: Any) -> float:
        """Violation of the constraint by `value`: 0 or less where it holds."""
        if self.relation in (">=", "<="):
            return float(value - self.limit) * (1 if self.relation == "<=" else -1)
        return 0.0 if (value == self.limit) is (self.relation == "==") else 1.0

    def __str__(self) -> str:
        limit = f"{self.limit:g}" if isinstance(self.limit, float) else self.limit
        return f"{self.figure.removeprefix(VAL)} {self.relation} {limit}"


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        name: of the sweep, its study and its folder of records.
        args: arguments of `vaebench fit` that all trials share.
        space: the search space.
        sampler, pruner: name and settings.
        objectives: 'maximise' or 'minimise' by metric of the validation images.
        constraints: that the best trial must satisfy.
        seeds: one training of a trial for each; its metrics are their mean or median (`combine`).
        stop: trials (settings tried), hours (of one launch), stalled (finished trials without a better one).
        protocol: of the measurements of validation images and records: name, and changes to it.
        engine: name and settings.
        heartbeat: seconds between heartbeats of a worker.
        source: the file.
    """

    name: str
    args: list[str]
    space: Space
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    objectives: dict[str, str]
    constraints: list[Constraint]
    seeds: list[int]
    combine: str
    stop: dict[str, float]
    protocol: dict[str, Any]
    engine: dict[str, Any]
    heartbeat: int
    source: Source = field(compare=False)

    def arguments(self, chosen: Mapping[str, Any], seed: int) -> list[str]:
        """A trial's training with one seed, as arguments of `vaebench fit`."""
        devices = self.engine.get("devices", 1)
        shared = [f"--trainer.devices={devices}", "--trainer.strategy=ddp"] if devices > 1 else []
        own = self.space.arguments(chosen)
        files = [a for a in (*self.args, *own) if a.startswith("--config=")]
        return [*files, *(a for a in (*self.args, *own) if a not in files), *shared, f"--seed_everything={seed}"]

    @property
    def fingerprint(self) -> str:
        """16 hex digits of everything that affects a trial's metrics; a study has one fingerprint."""
        choices = [p.choices.values() for p in self.space.parameters if p.key == "config"]
        files = [Path(a.removeprefix("--config=")) for a in self.args if a.startswith("--config=")]
        content = [path.read_text(encoding="utf-8") for path in [*files, *(p for chosen in choices for p in chosen)]]
        names = ("overrides", "space", "objectives", "constraints", "seeds", "combine", "protocol")
        own = {key: json.dumps(self.source.at(key) or DEFAULTS.get(key)) for key in names}
        return identity(files=content, devices=self.engine.get("devices", 1), **own)

    @property
    def measured(self) -> bool:
        """Whether a trial needs metrics besides the bound that training reports."""
        return {*self.objectives, *(constraint.figure for constraint in self.constraints)} != {BOUND}


def read_sweep(path: Path) -> Sweep:
    """Reads a sweep file, by its path or a name of the suite's; paths in it are relative to the file.

    Raises:
        UserError: with the line: an unknown key, an empty range, a sampler or stop rule that cannot work, …
    """
    source = Source(path)
    path = source.path
    content = source.table(KEYS)
    names, overrides = content.get("configs") or [], content.get("overrides") or {}
    if not isinstance(names, list):
        raise source.error(f"configs are {names!r}: expected a list of files such as [vae.yaml]", "configs")
    if not isinstance(overrides, dict):
        raise source.error(f"overrides are {overrides!r}: expected a table such as {{model.beta: 2}}", "overrides")
    files = [config_file(source, name, "configs", index) for index, name in enumerate(names)]
    args = [argument("config", file) for file in files]
    args += [argument(key, value) for key, value in overrides.items()]
    sweep = Sweep(
        name=_name(source, str(content.get("sweep", path.stem))),
        args=args,
        space=read_space(source),
        sampler=_named(source, "sampler", "tpe", SAMPLERS, ("seed",)),
        pruner=_named(source, "pruner", "none", PRUNERS),
        objectives=_objectives(source),
        constraints=_constraints(source),
        seeds=_seeds(source),
        combine=content.get("combine", "mean"),
        stop=_stop(source),
        protocol={**DEFAULTS["protocol"], **source.table(_keys(source, "protocol"), "protocol")},
        engine=_engine(source),
        heartbeat=content.get("heartbeat", 10),
        source=source,
    )
    _consistent(sweep)
    return sweep


def _name(source: Source, name: str) -> str:
    try:
        return require_folder_name(name, "the sweep")
    except UserError as error:
        raise source.error(str(error), "sweep") from None


def _keys(source: Source, *place: str) -> list[str]:
    """All keys of a table, which are checked elsewhere."""
    content = source.at(*place)
    return list(content) if isinstance(content, dict) else ["NAME: VALUE"]


def _engine(source: Source) -> dict[str, Any]:
    from vaebench.sweep.spec.engine import engine_settings, engines

    content = source.at("engine")
    content = content if isinstance(content, dict) else {"name": content or "local"}
    name = str(content.get("name"))
    if name not in engines():
        raise source.error(str(unknown("engine", name, engines())), "engine", "name")
    types = engine_settings(name)
    if source.at("engine", "name"):
        source.table(("name", *types), "engine")
    for key, value in content.items():
        if types.get(key) is list:
            if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
                raise source.error(f"'{key}' is {value!r}: expected a list of texts; mend it", "engine", key)
            continue
        kinds = {int: int, float: int | float, str: str}[types.get(key, str)]
        if not isinstance(value, kinds) or isinstance(value, bool) or (not isinstance(value, str) and value <= 0):
            what = {int: "a whole number above 0", float: "a number above 0", str: "a text"}[types.get(key, str)]
            raise source.error(f"'{key}' is {value!r}: expected {what}; mend it", "engine", key)
    if "members" in content and "devices" in content:
        raise source.error("a population trains on one device; remove members or devices", "engine", "devices")
    return dict(content)


def _named(
    source: Source,
    key: str,
    default: str,
    known: Mapping[str, Sampler] | Mapping[str, Pruner],
    common: tuple[str, ...] = (),
) -> dict[str, Any]:
    """`key: NAME` or `key: {name: NAME, SETTING: VALUE, …}` as the latter; settings are whole numbers above 0."""
    content = source.at(key)
    if not isinstance(content, dict):
        content = {"name": default if content is None else content}
    name = str(content.get("name"))
    if name not in known:
        raise source.error(str(unknown(key, name, known)), key, "name")
    if isinstance(source.at(key), dict):
        source.table(("name", *known[name].settings, *common), key)
    for setting, value in content.items():
        if setting != "name" and (not isinstance(value, int) or isinstance(value, bool) or value < (setting != "seed")):
            raise source.error(f"'{setting}' is {value!r}: expected a whole number above 0; mend it", key, setting)
    if content.get("factor", 2) < 2:
        raise source.error("'factor' is 1: expected at least 2, of which one trial goes on; raise it", key, "factor")
    if content.get("min_epochs", 1) > content.get("max_epochs", content.get("min_epochs", 1)):
        raise source.error("min_epochs is above max_epochs; lower it", key, "min_epochs")
    return dict(content)


def figure(source: Source, name: Any, *place: str | int) -> str:
    """The full name of a metric, 'val/…': sweeps only use those of the validation images."""
    if isinstance(name, str) and name.startswith("test/"):
        raise source.error(f"'{name}' reads the test images, which select nothing; use val/{name[5:]}", *place)
    return str(name) if str(name).startswith(VAL) else f"{VAL}{name}"


def _objectives(source: Source) -> dict[str, str]:
    content = source.at("objectives")
    if content is None:
        return dict(DEFAULTS["objectives"])
    if not isinstance(content, dict) or not content:
        raise source.error("expected a table such as {val/log_likelihood: maximise}", "objectives")
    for name, direction in content.items():
        if direction not in (MAXIMISE, MINIMISE):
            reason = unknown("direction", str(direction), [MAXIMISE, MINIMISE])
            raise source.error(str(reason), "objectives", name)
    return {figure(source, name, "objectives", name): direction for name, direction in content.items()}


def _constraints(source: Source) -> list[Constraint]:
    constraints, content = [], source.at("constraints") or []
    if not isinstance(content, list):
        raise source.error("expected a list such as [active_units >= 10]", "constraints")
    for index, text in enumerate(content):
        match = RELATION.fullmatch(str(text))
        if not match:
            raise source.error(
                f"'{text}' is no constraint: expected FIGURE >= NUMBER, <=, == or !=, such as 'active_units >= 10'",
                "constraints",
                index,
            )
        name, relation, limit = match.groups()
        number = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", limit)
        if relation in (">=", "<=") and not number:
            raise source.error(f"'{text}' compares with '{limit}': expected a number", "constraints", index)
        name = figure(source, name, "constraints", index)
        constraints.append(Constraint(name, relation, float(limit) if number else limit))
    return constraints


def _seeds(source: Source) -> list[int]:
    seeds = source.at("seeds")
    seeds = [0] if seeds is None else seeds
    whole = isinstance(seeds, list) and all(map(is_seed, seeds))
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise source.error(f"seeds are {seeds!r}: expected whole numbers from 0 to {LARGEST}, each once", "seeds")
    return seeds


def _stop(source: Source) -> dict[str, float]:
    stop = source.table(STOPS, "stop")
    for rule, value in stop.items():
        whole = rule == "hours" or isinstance(value, int)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0 or not whole:
            raise source.error(f"'{rule}' is {value!r}: expected a number above 0; mend it", "stop", rule)
    return dict(stop)


def _consistent(sweep: Sweep) -> None:
    """Refuses invalid combinations of settings that are each valid."""
    source = sweep.source
    if not re.fullmatch(r"[\w.-]+", sweep.name):
        raise source.error(f"the name '{sweep.name}' is a folder's: use letters, digits, '-' and '_'", "sweep")
    if not sweep.stop and sweep.sampler["name"] != "grid":
        raise source.error("nothing ends this sweep: expected 'stop: {trials: 40}', or hours, or stalled", "stop")
    if sweep.sampler["name"] == "grid" and {"trials", "stalled"} & sweep.stop.keys():
        raise source.error("a grid is tried whole; remove this rule, or take another sampler", "stop")
    if sweep.combine not in COMBINE:
        raise source.error(str(unknown("way to combine seeds", str(sweep.combine), COMBINE)), "combine")
    if not isinstance(sweep.heartbeat, int) or sweep.heartbeat < 1:
        raise source.error(f"heartbeat is {sweep.heartbeat!r}: expected whole seconds above 0", "heartbeat")
    if len(sweep.objectives) > 1 and sweep.sampler["name"] == "cma-es":
        raise source.error("cma-es follows one objective; use nsga-ii, tpe or gp for several", "sampler")
