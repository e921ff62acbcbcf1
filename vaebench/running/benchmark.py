"""Benchmark files: families × seeds under one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vaebench.configuration.discovery import figure_names, measurement_of
from vaebench.configuration.seeds import LARGEST, is_seed
from vaebench.configuration.source import Source, argument, config_file
from vaebench.errors import UserError, unknown
from vaebench.files import require_folder_name

KEYS = {"benchmark", "seeds", "protocol", "rank", "compare", "configs", "overrides", "runs"}
RUN_KEYS = {"seeds", "configs", "overrides", "claims"}
PROTOCOL_KEYS = {"name", "k", "seed", "limit", "precision", "compile", "measurements"}


@dataclass(frozen=True)
class BenchmarkRun:
    """A variant of a benchmark with one seed.

    Attributes:
        variant, seed: name and seed.
        args: arguments of `vaebench fit`.
        claims: ids of the published figures that it repeats, from `leaderboard/published.csv`.
    """

    variant: str
    seed: int
    args: list[str]
    claims: tuple[str, ...] = ()

    def seeded(self, seed: int) -> BenchmarkRun:
        """The same variant with another seed."""
        return replace(self, seed=seed, args=[*self.args[:-1], _seed(seed)])


@dataclass(frozen=True)
class Benchmark:
    """A benchmark file.

    Attributes:
        name: of the benchmark.
        protocol: name of the protocol, and changes to it: k, seed, limit, precision, ...
        runs: every variant with each of its seeds.
        rank: the ranking metric of its boards; None: the log-likelihood.
        compare: pairs of variants for which seeds are added until they are decided; see `running/until.py`.
    """

    name: str
    protocol: dict[str, Any]
    runs: list[BenchmarkRun] = field(default_factory=list)
    rank: str | None = None
    compare: tuple[tuple[str, str], ...] = ()


def read_benchmark(path: Path) -> Benchmark:
    """Reads a benchmark file, one's own or one of the suite's by its name; the paths in it are relative to it.

    Raises:
        UserError: no such file, not YAML, an unknown key or one that stands twice, no seeds or no runs, a figure to
            rank by that evaluation does not know.
    """
    source = Source(path, "benchmark file")
    path, content = source.path, _table(source.content, KEYS, str(source.path))
    protocol = _table(content.get("protocol") or {}, PROTOCOL_KEYS, f"{path}: protocol")
    seeds, runs = _seeds(content.get("seeds", [0]), path), content.get("runs")
    if not isinstance(runs, dict) or not runs:
        raise UserError(f"'{path}' has no runs: expected 'runs:' with a variant such as 'vae: {{configs: [vae.yaml]}}'")
    rank = content.get("rank")
    if rank is not None and measurement_of(str(rank)) is None:
        raise unknown("figure", str(rank), figure_names(), f"It stands in {path}, as rank.")
    shared = _arguments(content, source)
    plan = list[BenchmarkRun]()
    for variant, run in runs.items():
        if not isinstance(variant, str):
            raise UserError(f"'{path}' has a variant {variant!r}: expected a text; put its name in quotes")
        require_folder_name(variant, f"a variant of '{path}'")
        run = _table(run or {}, RUN_KEYS, f"{path}: runs.{variant}")
        own, claims = _arguments(run, source, "runs", variant), run.get("claims") or []
        if not isinstance(claims, list) or not all(isinstance(claim, str) for claim in claims):
            raise UserError(f"'{path}' has claims {claims!r}: expected a list of ids of published.csv; mend that value")
        args = [*shared[0], *own[0], *_settings(shared[1], own[1])]
        its = _seeds(run["seeds"], path) if "seeds" in run else seeds
        plan += [BenchmarkRun(variant, seed, [*args, _seed(seed)], tuple(claims)) for seed in its]
    name = require_folder_name(str(content.get("benchmark", path.stem)), f"the benchmark of '{path}'")
    compare = _pairs(content.get("compare") or [], list(runs), path)
    return Benchmark(name, protocol, plan, rank if rank is None else str(rank), compare)


def _seeds(content: Any, path: Path) -> list[int]:
    """Seeds of all variants, or of one of them."""
    if not isinstance(content, list) or not content or not all(map(is_seed, content)):
        raise UserError(f"'{path}' has seeds {content!r}: expected a list of whole numbers from 0 to {LARGEST}")
    if len(set(content)) < len(content):
        raise UserError(f"'{path}' has seeds {content}: expected each once; remove the repeated ones")
    return content


def _seed(seed: int) -> str:
    """The last argument of `vaebench fit` for a run."""
    return f"--seed_everything={seed}"


def _pairs(content: Any, variants: list[str], path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of different variants."""
    if not isinstance(content, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        raise UserError(f"'{path}' has compare {content!r}: expected pairs of variants such as [[iwae, vae]]")
    for pair in content:
        for name in pair:
            if name not in variants:
                raise unknown("variant", str(name), variants, f"It stands in {path}, under compare.")
        if pair[0] == pair[1]:
            raise UserError(f"'{path}' compares '{pair[0]}' with itself: expected two variants; name another")
    return tuple((first, second) for first, second in content)


def _table(content: Any, keys: set[str], where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"'{where}' holds {type(content).__name__}: expected keys {', '.join(sorted(keys))}")
    for key in content:
        if key not in keys:
            raise unknown("key", str(key), keys, f"It stands in {where}.")
    return content


def _settings(shared: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Overrides of all variants and those of one, which go before, as command-line arguments.

    A part comes before its settings, whichever of the two names it: the parser drops those of another part.
    """
    left = {key: value for key, value in shared.items() if not any(_sets(one, own[one], key) for one in own)}
    every = {**left, **own}
    return [argument(key, every[key]) for key in sorted(every, key=lambda key: key.count("."))]


def _sets(key: str, value: Any, setting: str) -> bool:
    """Whether a key with its value sets a setting, itself or inside of the table that it is."""
    if key == setting:
        return True
    if not setting.startswith(f"{key}.") or not isinstance(value, Mapping):
        return False
    inside = value.get("init_args", value)
    rest = setting.removeprefix(f"{key}.").removeprefix("init_args.")
    return isinstance(inside, Mapping) and any(_sets(str(one), inside[one], rest) for one in inside)


def _arguments(content: Mapping[str, Any], source: Source, *place: str) -> tuple[list[str], dict[str, Any]]:
    """Configuration files as command-line arguments, and single settings."""
    names, overrides, path = content.get("configs") or [], content.get("overrides") or {}, source.path
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"'{path}' has configs {names!r}: expected a list of files such as [vae.yaml]")
    if not isinstance(overrides, dict):
        raise UserError(f"'{path}' has overrides {overrides!r}: expected a table such as {{model.beta: 2}}")
    files = [config_file(source, name, *place, "configs", index) for index, name in enumerate(names)]
    return [f"--config={file}" for file in files], {str(key): value for key, value in overrides.items()}
