"""`bench --calibrate`: training steps timed in turns with the plain VAE's, so that costs hold from day to day."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaebench.core import Family, fixed_noise
from vaebench.data.base import ImageData
from vaebench.records import read_record
from vaebench.records.calibration import Calibration, write_calibration
from vaebench.running.bench import Ended
from vaebench.running.cost import cost
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.machine import load, machine
from vaebench.training.models import build

PAIRS, LOW, HIGH = 15, 3, 11  # sorted, these two hold the median with 96 % whatever the distribution
BLOCK = 0.05  # seconds of steps that are timed as one, at least
TURNS = 20  # steps of a block, at least, where parameter groups take turns
GOLDEN = (math.sqrt(5) - 1) / 2  # whose multiples spread over a run and over turns of any length
BATCHES = 8  # that a block takes its images from
BATCH = 128  # images of the plain VAE's step
COSTS = ("step_flops", "step_flops_unavailable", "step_images", "uncounted")


class Calibrated(NamedTuple):
    """What became of one variant: its calibration, or why it has none."""

    variant: str
    calibration: Calibration | None
    reason: str = ""


def calibrate(ended: Iterable[Ended]) -> Iterator[Calibrated]:
    """Times a step of every variant that has records, and writes what was found beside each of them.

    Args:
        ended: the runs of a benchmark.

    Yields:
        Each variant.

    Raises:
        UserError: a record is damaged.
        OSError: the disk failed.
    """
    runs: dict[str, list[Ended]] = {}
    for one in ended:
        if not one.reason:
            runs.setdefault(one.training.variant, []).append(one)
    for variant, own in runs.items():
        try:
            found = measure(experiment(own[0].training.args))
        except OSError:
            raise
        except Exception as error:  # the records are complete without, and the other variants go on
            yield Calibrated(variant, None, " ".join(str(error).split())[:300] or type(error).__name__)
            continue
        for one in own:
            write_calibration(read_record(one.place), found)
        yield Calibrated(variant, found)


def measure(job: Experiment) -> Calibration:
    """Times steps of a run in turns with those of the plain VAE, with its defaults, on the same images.

    Steps are whole ones, with losses, gradients and optimisers, on batches that lie ready. A block of steps of one and
    a block of the other make a pair, in turns which of them is first; the ratio is the median of the pairs' ratios.
    On a CPU it is processor time of one thread, which other processes do not lengthen while they have the core; on a
    GPU wall-clock.

    Raises:
        UserError: the run cannot be built.
    """
    device = torch.device("cuda" if torch.cuda.is_available() and job.options["accelerator"] != "cpu" else "cpu")
    torch.set_flush_denormal(True)  # as training does
    model, data = job.build()
    total = job.budget(data).total or 1
    before = load()
    with fixed_noise(0, device), _one_thread(device):
        ours = Steps(model, data, data.batch_size, device, job.options, total)
        plain = Steps(build("vae", data), data, BATCH, device, {"precision": None, "accumulate_grad_batches": 1}, 1)
        pairs = []
        for index in range(PAIRS):
            first, second = (ours, plain) if index % 2 else (plain, ours)
            times = {first: first.block(), second: second.block()}
            pairs.append((times[ours], times[plain]))
        known = machine(device)
    ratios = sorted(own / reference for own, reference in pairs)
    costs = cost(model, data, total)
    busy = {name: value for name, value in (("load_start", before), ("load_end", load())) if value is not None}
    return Calibration(
        ratio=statistics.median(ratios),
        low=ratios[LOW],
        high=ratios[HIGH],
        pairs=PAIRS,
        step_seconds=statistics.median(own for own, _ in pairs),
        reference_seconds=statistics.median(reference for _, reference in pairs),
        reference=f"vae with its defaults, batches of {BATCH}",
        flops={name: costs[name] for name in COSTS if name in costs},
        machine={**known, **busy},
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


class Steps:
    """Takes training steps of a model, as training does, and times them.

    Args:
        model: that learns.
        data: whose training images it sees.
        size: images a batch.
        device: where it learns.
        options: of the trainer: precision and accumulate_grad_batches.
        total: steps of its run, over which those of a block are spread, for the sake of groups that take turns.
    """

    def __init__(
        self, model: Family, data: ImageData, size: int, device: torch.device, options: dict[str, Any], total: int
    ) -> None:
        precision = str(options["precision"])
        dtype = torch.float64 if "64" in precision else torch.bfloat16 if precision == "bf16-true" else torch.float32
        self._mixed = torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
        self._model, self._device, self._total = model.to(device, dtype).train(), device, total
        self._model.accumulate = options["accumulate_grad_batches"]
        self._model.configure_optimizers()
        x, y = data.first("train", BATCHES * size).to(device, dtype), data.labels("train")
        labels = None if y is None else y[: BATCHES * size].to(device)
        self._batches: list[tuple[Tensor, Tensor | None]] = [
            (x[start : start + size], None if labels is None else labels[start : start + size])
            for start in range(0, max(len(x) - size, 0) + 1, size)
        ]
        self._count = TURNS if type(model).active is not Family.active else 1
        self.block()  # the first steps allocate
        self._count = max(self._count, math.ceil(BLOCK / self.block()))

    def block(self) -> float:
        """Seconds of a step, mean over a block of them."""
        start = self._now()
        with self._mixed:
            for index in range(self._count):
                self._model.steps = int(self._total * (index * GOLDEN % 1))
                x, y = self._batches[index % len(self._batches)]
                self._model.learn(x, y, (index + 1) % self._model.accumulate == 0)
        return (self._now() - start) / self._count

    def _now(self) -> float:
        if self._device.type != "cuda":
            return time.thread_time()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """A block in which torch computes in one thread of a CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
