"""Benchmarks: families × seeds from one YAML file, resumed where they stopped, never repeating a finished run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vaebench.errors import UserError, unknown

KEYS = {"benchmark", "seeds", "protocol", "configs", "overrides", "runs"}
RUN_KEYS = {"configs", "overrides"}
PROTOCOL_KEYS = {"name", "k", "seed", "limit", "precision", "compile", "measurements"}


@dataclass(frozen=True)
class Run:
    """One training of a benchmark: the arguments that `vaebench fit` would be given."""

    variant: str
    seed: int
    args: list[str]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark file.

    Attributes:
        name: of the benchmark.
        protocol: which protocol judges the runs (name), and changes to it: k, seed, limit, precision, ...
        runs: every variant with every seed.
    """

    name: str
    protocol: dict[str, Any]
    runs: list[Run] = field(default_factory=list)


def read_benchmark(path: Path) -> Benchmark:
    """Reads a benchmark file; the paths in it are relative to it.

    Raises:
        UserError: no such file, not YAML, an unknown key, no seeds or no runs.
    """
    if not path.is_file():
        raise unknown("benchmark file", str(path), [str(p) for p in sorted(path.parent.glob("*.yaml"))])
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not YAML: {' '.join(str(error).split())}; mend that line") from error
    content = _table(content, KEYS, str(path))
    protocol = _table(content.get("protocol") or {}, PROTOCOL_KEYS, f"{path}: protocol")
    seeds, runs = content.get("seeds", [0]), content.get("runs")
    if not isinstance(seeds, list) or not seeds or not all(isinstance(s, int) and s >= 0 for s in seeds):
        raise UserError(f"'{path}' has seeds {seeds!r}: expected a list of whole numbers such as [0, 1, 2]")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"'{path}' has seeds {seeds}: expected each once; remove the repeated ones")
    if not isinstance(runs, dict) or not runs:
        raise UserError(f"'{path}' has no runs: expected 'runs:' with a variant such as 'vae: {{configs: [vae.yaml]}}'")
    shared = _arguments(content, path)
    plan = []
    for variant, run in runs.items():
        own = _arguments(_table(run or {}, RUN_KEYS, f"{path}: runs.{variant}"), path)
        plan += [Run(variant, seed, [*shared[0], *own[0], *shared[1], *own[1], f"--seed_everything={seed}"])
                 for seed in seeds]  # fmt: skip
    return Benchmark(content.get("benchmark", path.stem), protocol, plan)


def _table(content: Any, keys: set[str], where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"'{where}' holds {type(content).__name__}: expected keys {', '.join(sorted(keys))}")
    for key in content:
        if key not in keys:
            raise unknown("key", str(key), keys, f"It stands in {where}.")
    return content


def _arguments(content: Mapping[str, Any], path: Path) -> tuple[list[str], list[str]]:
    """Configuration files, and single settings, as command-line arguments."""
    configs = []
    for name in content.get("configs") or []:
        config = (path.parent / name).resolve()
        if not config.is_file():
            raise unknown("configuration file", name, [p.name for p in sorted(config.parent.glob("*.yaml"))],
                          f"It stands in {path}.")  # fmt: skip
        configs.append(f"--config={config}")
    return configs, [f"--{key}={value}" for key, value in (content.get("overrides") or {}).items()]


def bench(path: Path, results: Path, work: Path, progress: bool = True) -> Iterator[tuple[Run, Path, bool]]:
    """Trains, evaluates and records every run of a benchmark that has no record yet.

    All runs are parsed before the first starts. A run that was interrupted goes on where it was last saved.

    Args:
        path: the benchmark file.
        results: folder of the records; they go to `results/<benchmark>/`.
        work: folder for checkpoints of unfinished runs.
        progress: draw progress bars.

    Yields:
        Each run with its record's folder, and whether it had been finished before.
    """
    benchmark = read_benchmark(path)  # before torch is imported: a mistake is answered at once
    from vaebench.evaluation import read_protocol
    from vaebench.explain import experiment
    from vaebench.progress import training_bar
    from vaebench.runs import record_id, record_run

    request = benchmark.protocol
    judge = read_protocol(**request)
    plan = [(run, experiment(run.args)) for run in benchmark.runs]
    for index, (run, job) in enumerate(plan):
        _, data = job.build()
        identity = record_id(job.identity(data), judge)
        name = f"{run.variant}-s{run.seed}-{identity[:8]}"
        directory = results / benchmark.name / name
        if (directory / "record.json").is_file():
            yield run, directory, True
            continue
        scratch = work / benchmark.name / name
        with training_bar(f"{run.variant} seed {run.seed} ({index + 1}/{len(plan)})", progress) as bar:
            checkpoint = scratch / "model.ckpt"
            if not checkpoint.is_file():
                checkpoint = job.run(scratch, bar)
        record_run(checkpoint, directory, request, benchmark.name, run.variant, progress)
        shutil.rmtree(scratch)
        yield run, directory, False
