"""Benchmarks: trains, evaluates and records missing runs; one failed run does not stop the others."""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from vaebench.configuration.discovery import measurement_of
from vaebench.configuration.parts import name_of
from vaebench.errors import NO_MEMORY, Diverged, UserError, out_of_memory, printable
from vaebench.evaluation import read_protocol
from vaebench.files import HeldError, alone_in
from vaebench.loggers import Log, Logbook, of_training
from vaebench.records.failures import Failure, write_failure
from vaebench.records.rank import write_rank
from vaebench.running.benchmark import Benchmark, BenchmarkRun
from vaebench.running.recording import record_id
from vaebench.running.run import Run
from vaebench.training.checkpoint import describe
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.population import Member, Population
from vaebench.training.progress import training_bar
from vaebench.training.solo import train

Engine = Literal["solo", "population"]


class Ended(NamedTuple):
    """The end of a run of a benchmark.

    Attributes:
        training: the variant and its seed.
        place: the folder of its record, or the file of its failure.
        before: whether it ended in an earlier call.
        reason: why it has no record; empty where it has one.
    """

    training: BenchmarkRun
    place: Path
    before: bool = False
    reason: str = ""


def bench(
    benchmark: Benchmark,
    results: Path,
    work: Path,
    progress: bool = True,
    engine: Engine = "solo",
    logbook: Logbook | None = None,
    since: float | None = None,
) -> Iterator[Ended]:
    """Trains, evaluates and records every run of a benchmark that has no record yet.

    All runs are parsed before the first starts. An interrupted run resumes from its last save. A run that diverges or
    fails is noted beside the records (`failures`), and the others continue; a diverged run is not retried while that
    note exists. A run whose weights are in a record of another protocol is only evaluated. Several processes may
    work at one benchmark: each takes the next run that none of them has.

    Args:
        benchmark: from `read_benchmark`.
        results: folder of all records; these go to `results/<benchmark>/`.
        work: folder of unfinished runs.
        progress: draw progress bars.
        engine: 'solo' trains one run after another; 'population' trains runs together where possible, then the others.
        logbook: of runs without a record.
        since: seconds since the epoch; a run that has failed after it is not tried again. Default: now.

    Yields:
        The end of each run.

    Raises:
        UserError: the configuration of a run is not valid, a record is damaged, or the protocol does not give the
            ranking metric.
        OSError: the disk failed, which would fail all further runs.
    """
    start = time.time() if since is None else since
    builder = RunBuilder(benchmark, results, work, progress, logbook or Logbook(), start)
    _write_rank(benchmark, builder)
    jobs = [(training, experiment(training.args)) for training in benchmark.runs]
    if engine == "population":
        jobs = yield from _population(jobs, builder)
    yield from _solo(jobs, builder)


def _write_rank(benchmark: Benchmark, builder: RunBuilder) -> None:
    """Writes the benchmark's ranking metric beside the records, if it has one."""
    if benchmark.rank is None:
        return
    if (needed := measurement_of(benchmark.rank)) not in builder.protocol.measurements:
        raise UserError(
            f"'{benchmark.name}' ranks by {benchmark.rank}, a figure of the measurement '{needed}', which its protocol "
            f"leaves out; add it under protocol.measurements, as {{{needed}: {{}}}}"
        )
    write_rank(builder.results, benchmark.rank)


class Prepared(NamedTuple):
    """A run that can be built.

    Attributes:
        training: the variant and its seed.
        job: its training.
        run: its folders and its record.
        failure: the note of a failure, without kind and reason.
        since: as in `bench`.
    """

    training: BenchmarkRun
    job: Experiment
    run: Run
    failure: Failure
    since: float


class RunBuilder:
    """Builds a benchmark's runs and determines their folders.

    Args:
        benchmark: the benchmark.
        results, work, progress, logbook, since: as in `bench`.
    """

    def __init__(
        self, benchmark: Benchmark, results: Path, work: Path, progress: bool, logbook: Logbook, since: float
    ) -> None:
        self.benchmark, self.progress, self.logbook, self.since = benchmark.name, progress, logbook, since
        self.protocol = read_protocol(**benchmark.protocol)
        self.results, self.work = results / benchmark.name, work / benchmark.name

    def prepare(self, training: BenchmarkRun, job: Experiment) -> Prepared:
        """Builds a run, for its identity and to check that its parts are compatible.

        Raises:
            UserError: it cannot be built.
        """
        model, data = job.build()
        identity = job.identity(data)
        number = record_id(identity, self.protocol)
        name = f"{training.variant}-s{training.seed}-{number[:8]}"
        about = of_training(job, data, "bench", number, self.benchmark, training.variant)
        run = Run(
            identity, self.protocol, self.results / name, self.work / name, self.benchmark, training.variant,
            progress=self.progress, reuses=True, open_log=lambda: self.logbook.open(about),
        )  # fmt: skip
        failure = Failure(number, name_of(type(model)), training.variant, self.benchmark, training.seed, job.plain,
                          describe(data), model.surrogate, "failed", "")  # fmt: skip
        return Prepared(training, job, run, failure, self.since)


def _solo(jobs: list[tuple[BenchmarkRun, Experiment]], builder: RunBuilder) -> Iterator[Ended]:
    """Runs one after another; those that another process trains now come last, and are waited for."""
    held = list[tuple[int, Prepared]]()
    for index, (training, job) in enumerate(jobs):
        try:
            prepared = builder.prepare(training, job)
        except OSError:
            raise
        except Exception as error:
            yield Ended(training, builder.results, reason=_reason(error))
            continue
        try:
            yield _alone(prepared, f"({index + 1}/{len(jobs)})", builder.progress, wait=False)
        except HeldError:
            held.append((index, prepared))
    for index, prepared in held:
        yield _alone(prepared, f"({index + 1}/{len(jobs)})", builder.progress, wait=True)


def _alone(prepared: Prepared, count: str, progress: bool, wait: bool) -> Ended:
    """Obtains a run under its lock.

    Raises:
        HeldError: another process trains it, and this one is not to wait.
    """
    if (ended := _ended_before(prepared)) is not None:
        return ended
    with alone_in(prepared.run.scratch, wait):
        return _ended_before(prepared) or _obtained(prepared, count, progress)


def _population(
    jobs: list[tuple[BenchmarkRun, Experiment]], builder: RunBuilder
) -> Generator[Ended, None, list[tuple[BenchmarkRun, Experiment]]]:
    """Trains runs as a population; yields as `bench` does, and returns those that must train solo."""
    population, alone = Population(), list[tuple[BenchmarkRun, Experiment]]()
    members: dict[Member, tuple[Prepared, Log]] = {}
    with ExitStack() as stack:
        for training, job in jobs:
            job.engine = population.engine
            try:
                prepared = builder.prepare(training, job)
                ended = _ended_before(prepared)
                if ended is None:
                    stack.enter_context(alone_in(prepared.run.scratch))
                    ended = _ended_before(prepared)  # by the process that held the lock
                if ended is None and prepared.run.pending:
                    member = population.add(job, prepared.run.scratch)
                    members[member] = prepared, stack.enter_context(prepared.run.open_log())
                else:
                    yield ended or _obtained(prepared)
            except OSError:
                raise
            except Exception as error:
                print(f"{training.variant} seed {training.seed} trains by itself: {_reason(error)}", file=sys.stderr)
                alone.append((training, job))
        try:
            with training_bar(f"{len(members)} runs together", builder.progress) as bar:
                while learnt := population.epoch():
                    bar(sum(member.fraction for member in members) / len(members), {})
                    for member in learnt:
                        members[member][1].history(member.history.curves)
        except OSError:
            raise
        except Exception as error:  # such as a lack of memory, which any member may have caused
            print(
                f"{len(members)} runs train by themselves, for together they failed: {_reason(error)}", file=sys.stderr
            )
            for prepared, log in members.values():
                log.close("failed")
                alone.append((prepared.training, prepared.job))
        else:
            for member, (prepared, _) in members.items():
                yield _obtained(prepared, member=member)
    for _, job in alone:
        job.engine = {}
    return alone


def _ended_before(prepared: Prepared) -> Ended | None:
    """The end of a run in an earlier call, or in another process since this call began; None for a pending run."""
    if prepared.run.finished() is not None:
        return Ended(prepared.training, prepared.run.directory, True)
    failure = prepared.run.failure()
    if failure is not None and (failure.kind == "diverged" or prepared.run.note.stat().st_mtime > prepared.since):
        return Ended(prepared.training, prepared.run.note, True, failure.reason)
    return None


def _obtained(prepared: Prepared, count: str = "", progress: bool = True, member: Member | None = None) -> Ended:
    """Obtains a run, or notes why it has no record.

    Args:
        prepared: the run.
        count: its position among the runs, for the bar.
        progress: draw a bar of its training.
        member: of the population that has trained it; None trains it now.

    Raises:
        OSError: the disk failed.
    """
    training, job, run = prepared.training, prepared.job, prepared.run

    def trained(log: Log) -> Path:
        if member is not None:
            return member.export()
        with training_bar(f"{training.variant} seed {training.seed} {count}", progress) as bar:
            return train(job, run.scratch, bar, log.callbacks)

    try:
        run.obtain(trained)
    except OSError:
        raise
    except Exception as error:
        return _failed(prepared, error)
    return Ended(training, run.directory)


def _failed(prepared: Prepared, error: Exception) -> Ended:
    """Notes why a run has no record."""
    reason = _reason(error)
    kind: Literal["diverged", "failed"] = "diverged" if isinstance(error, Diverged) else "failed"
    write_failure(prepared.run.note, replace(prepared.failure, kind=kind, reason=reason))
    return Ended(prepared.training, prepared.run.note, reason=reason)


def _reason(error: Exception) -> str:
    """An error in a sentence without paths of this machine; prints tracebacks of errors other than UserErrors."""
    if isinstance(error, UserError):
        reason = str(error)
    elif out_of_memory(error):
        reason = NO_MEMORY
    else:
        traceback.print_exception(error)
        reason = f"{type(error).__name__}: {error}"
    reason = printable(" ".join(reason.split()))
    return re.sub(r"(?:/[\w.+-]+){2,}", lambda match: match[0].rpartition("/")[2], reason)[:500]
