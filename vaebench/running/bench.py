"""Benchmarks: families × seeds from one YAML file, resumed where they stopped, never repeating a finished run."""

from __future__ import annotations

import re
import shutil
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vaebench.configuration.discovery import figure_names, measurement_of
from vaebench.configuration.parts import name_of
from vaebench.configuration.seeds import LARGEST, is_seed
from vaebench.configuration.source import Source, argument
from vaebench.errors import Diverged, UserError, unknown
from vaebench.files import alone_in
from vaebench.loggers import Log, Logbook, of_training
from vaebench.records import failures, read_record
from vaebench.records.failures import Failure
from vaebench.records.rank import write_rank

if TYPE_CHECKING:
    from vaebench.training.experiment import Experiment

Engine = Literal["solo", "population"]
KEYS = {"benchmark", "seeds", "protocol", "rank", "configs", "overrides", "runs"}
RUN_KEYS = {"configs", "overrides", "claims"}
PROTOCOL_KEYS = {"name", "k", "seed", "limit", "precision", "compile", "measurements"}


@dataclass(frozen=True)
class Run:
    """One training of a benchmark: the arguments that `vaebench fit` would be given.

    Attributes:
        variant, seed: which.
        args: the arguments.
        claims: published figures that it repeats, by their ids in `leaderboard/published.csv`.
    """

    variant: str
    seed: int
    args: list[str]
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A benchmark file.

    Attributes:
        name: of the benchmark.
        protocol: which protocol judges the runs (name), and changes to it: k, seed, limit, precision, ...
        runs: every variant with every seed.
        rank: the figure that its boards are ranked by; None: the log-likelihood.
    """

    name: str
    protocol: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    rank: str | None = None


def read_benchmark(path: Path) -> Benchmark:
    """Reads a benchmark file; the paths in it are relative to it.

    Raises:
        UserError: no such file, not YAML, an unknown key or one that stands twice, no seeds or no runs, a figure to
            rank by that evaluation does not know.
    """
    content = _table(Source(path, "benchmark file").content, KEYS, str(path))
    protocol = _table(content.get("protocol") or {}, PROTOCOL_KEYS, f"{path}: protocol")
    seeds, runs = content.get("seeds", [0]), content.get("runs")
    if not isinstance(seeds, list) or not seeds or not all(map(is_seed, seeds)):
        raise UserError(f"'{path}' has seeds {seeds!r}: expected a list of whole numbers from 0 to {LARGEST}")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"'{path}' has seeds {seeds}: expected each once; remove the repeated ones")
    if not isinstance(runs, dict) or not runs:
        raise UserError(f"'{path}' has no runs: expected 'runs:' with a variant such as 'vae: {{configs: [vae.yaml]}}'")
    rank = content.get("rank")
    if rank is not None and measurement_of(str(rank)) is None:
        raise unknown("figure", str(rank), figure_names(), f"It stands in {path}, as rank.")
    shared = _arguments(content, path)
    plan = []
    for variant, run in runs.items():
        if not isinstance(variant, str):
            raise UserError(f"'{path}' has a variant {variant!r}: expected a text; put its name in quotes")
        run = _table(run or {}, RUN_KEYS, f"{path}: runs.{variant}")
        own, claims = _arguments(run, path), run.get("claims") or []
        if not isinstance(claims, list) or not all(isinstance(claim, str) for claim in claims):
            raise UserError(f"'{path}' has claims {claims!r}: expected a list of ids of published.csv; mend that value")
        plan += [Run(variant, seed, [*shared[0], *own[0], *shared[1], *own[1], f"--seed_everything={seed}"],
                     tuple(claims)) for seed in seeds]  # fmt: skip
    name = str(content.get("benchmark", path.stem))
    return Benchmark(name, protocol, plan, rank if rank is None else str(rank))


def _table(content: Any, keys: set[str], where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"'{where}' holds {type(content).__name__}: expected keys {', '.join(sorted(keys))}")
    for key in content:
        if key not in keys:
            raise unknown("key", str(key), keys, f"It stands in {where}.")
    return content


def _arguments(content: Mapping[str, Any], path: Path) -> tuple[list[str], list[str]]:
    """Configuration files, and single settings, as command-line arguments."""
    configs, names, overrides = [], content.get("configs") or [], content.get("overrides") or {}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"'{path}' has configs {names!r}: expected a list of files such as [vae.yaml]")
    if not isinstance(overrides, dict):
        raise UserError(f"'{path}' has overrides {overrides!r}: expected a table such as {{model.beta: 2}}")
    for name in names:
        config = (path.parent / name).resolve()
        if not config.is_file():
            raise unknown("configuration file", name, [p.name for p in sorted(config.parent.glob("*.yaml"))],
                          f"It stands in {path}.")  # fmt: skip
        configs.append(f"--config={config}")
    return configs, [argument(key, value) for key, value in overrides.items()]


def bench(
    path: Path,
    results: Path,
    work: Path,
    progress: bool = True,
    engine: Engine = "solo",
    logbook: Logbook | None = None,
) -> Iterator[Ended]:
    """Trains, evaluates and records every run of a benchmark that has no record yet.

    All runs are parsed before the first starts. A run that was interrupted goes on where it was last saved.

    Args:
        path: the benchmark file.
        results: folder of the records; they go to `results/<benchmark>/`.
        work: folder for checkpoints of unfinished runs.
        progress: draw progress bars.
        engine: 'solo' trains one run after another; 'population' trains together what can be, and then the others.
        logbook: what follows the runs that have no record yet.

    A run that diverges or fails is noted beside the records (`failures`), and the others go on. One that
    diverged is not tried again as long as that note is there.

    Yields:
        How each run ended.

    Raises:
        OSError: the disk failed, which every run would meet.
    """
    benchmark = read_benchmark(path)  # before torch is imported: a mistake is answered at once
    from vaebench.evaluation import read_protocol
    from vaebench.running.recording import record_id, record_run
    from vaebench.training.experiment import describe, experiment
    from vaebench.training.progress import training_bar

    judge, logbook = read_protocol(**benchmark.protocol), logbook or Logbook()
    if benchmark.rank is not None:
        if (needed := measurement_of(benchmark.rank)) not in judge.measurements:
            raise UserError(
                f"'{path}' ranks by {benchmark.rank}, a figure of the measurement '{needed}', which its protocol "
                f"leaves out; add it under protocol.measurements, as {{{needed}: {{}}}}"
            )
        write_rank(results / benchmark.name, benchmark.rank)

    def place(run: Run, job: Experiment) -> Place:
        model, data = job.build()
        identity = record_id(job.identity(data), judge)
        name = f"{run.variant}-s{run.seed}-{identity[:8]}"
        about = of_training(job, data, "bench", identity, benchmark.name, run.variant)
        family = name_of(type(model))
        what = (identity, family, run.variant, benchmark.name, run.seed, job.plain, describe(data), model.surrogate)
        return Place(
            results / benchmark.name / name,
            work / benchmark.name / name,
            lambda: logbook.open(about),
            lambda kind, reason: Failure(*what, kind, reason),
        )

    def recorded(run: Run, at: Place, checkpoint: Path, log: Log) -> Ended:
        log.record(record_run(checkpoint, at.directory, benchmark.protocol, benchmark.name, run.variant, progress))
        log.close()
        failures.place(at.directory).unlink(missing_ok=True)
        shutil.rmtree(checkpoint.parent)
        return Ended(run, at.directory)

    def trained(run: Run, job: Experiment, at: Place, count: str) -> Ended:
        with at.open_log() as log:
            checkpoint = at.scratch / "model.ckpt"
            if not checkpoint.is_file():
                with training_bar(f"{run.variant} seed {run.seed} {count}", progress) as bar:
                    checkpoint = job.run(at.scratch, bar, log.callbacks)
            return recorded(run, at, checkpoint, log)

    plan = [(run, experiment(run.args)) for run in benchmark.runs]
    if engine == "population":
        plan = yield from _together(plan, place, recorded, progress)
    for index, (run, job) in enumerate(plan):
        try:
            at = place(run, job)
        except UserError as error:  # such as parts that do not go together
            yield Ended(run, results / benchmark.name, reason=str(error))
            continue
        if (before := _before(run, at)) is not None:
            yield before
            continue
        try:
            with alone_in(at.scratch):
                ended = _before(run, at) or trained(run, job, at, f"({index + 1}/{len(plan)})")
        except OSError:
            raise
        except Exception as error:
            ended = _failed(run, at, error)
        yield ended


class Ended(NamedTuple):
    """How a run of a benchmark ended.

    Attributes:
        run: which.
        place: the folder of its record, or the file that says why it has none.
        before: it had ended in an earlier call.
        reason: why it has no record; empty where it has one.
    """

    run: Run
    place: Path
    before: bool = False
    reason: str = ""


def _before(run: Run, at: Place) -> Ended | None:
    """How a run ended in an earlier call; None where it has to train."""
    if (at.directory / "record.json").is_file():
        read_record(at.directory)  # a damaged one is no finished run
        shutil.rmtree(at.scratch, ignore_errors=True)  # of a run that was killed after its record
        return Ended(run, at.directory, True)
    note = failures.place(at.directory)
    if note.is_file():
        found = failures.read_failure(note)
        if isinstance(found, Failure) and found.kind == "diverged":
            return Ended(run, note, True, found.reason)
    return None


def _failed(run: Run, at: Place, error: Exception) -> Ended:
    """Notes why a run has no record; what is no mistake of the user's is printed whole."""
    if not isinstance(error, UserError):
        traceback.print_exception(error)
    diverged = isinstance(error, Diverged)
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    reason = re.sub(r"(?:/[\w.+-]+){2,}", lambda found: found[0].rpartition("/")[2], " ".join(reason.split()))[:500]
    note = failures.place(at.directory)
    failures.write_failure(note, at.failure("diverged" if diverged else "failed", reason))
    return Ended(run, note, reason=reason)


class Place(NamedTuple):
    """Folders of a run's record and of the unfinished run, what opens its log, and what makes a note of its failure."""

    directory: Path
    scratch: Path
    open_log: Callable[[], Log]
    failure: Callable[[Literal["diverged", "failed"], str], Failure]


def _together(
    plan: list[tuple[Run, Experiment]],
    place: Callable[[Run, Experiment], Place],
    recorded: Callable[[Run, Place, Path, Log], Ended],
    progress: bool,
) -> Generator[Ended, None, list[tuple[Run, Experiment]]]:
    """Trains runs as a population; yields as `bench` does, and returns those that must train by themselves."""
    from vaebench.training.population import Member, Population
    from vaebench.training.progress import training_bar

    population, alone = Population(), []
    members: dict[Member, tuple[Run, Place, Log]] = {}
    with ExitStack() as logs:
        for run, job in plan:
            job.engine = population.engine
            try:
                at = place(run, job)
                before = _before(run, at)
                if before is None:
                    logs.enter_context(alone_in(at.scratch))
                    before = _before(run, at)  # by the process that was waited for
                if before is not None:
                    yield before
                elif (at.scratch / "model.ckpt").is_file():
                    yield recorded(run, at, at.scratch / "model.ckpt", logs.enter_context(at.open_log()))
                else:
                    members[population.add(job, at.scratch)] = run, at, logs.enter_context(at.open_log())
            except UserError as error:
                print(f"{run.variant} seed {run.seed} trains by itself: {error}", file=sys.stderr)
                job.engine = {}
                alone.append((run, job))
        try:
            with training_bar(f"{len(members)} runs together", progress) as bar:
                while learnt := population.epoch():
                    bar(sum(member.fraction for member in members) / len(members), {})
                    for member in learnt:
                        members[member][2].history(member.kept.curves)
        except OSError:
            raise
        except Exception as error:  # such as a device without memory: whose fault it is cannot be told
            traceback.print_exception(error)
            print(f"{len(members)} runs train by themselves, for together they failed", file=sys.stderr)
            for member, (run, _, _) in members.items():
                member.job.engine = {}
                alone.append((run, member.job))
            return alone
        for member, (run, at, log) in members.items():
            try:
                ended = recorded(run, at, member.export(), log)
            except OSError:
                raise
            except Exception as error:
                log.close("failed")
                ended = _failed(run, at, error)
            yield ended
    return alone
