"""How time and memory grow: with the batch, latents, image size, K, members of a population, running trials and trials.

    python benchmarks/growth.py [--rounds 3] [--axis NAME ...] [--chart growth.html]

Each axis doubles or quadruples one quantity and leaves the others at a batch of 128 images of 28 × 28, 50 latents and
tanh 200-200 (the images' axis: the small convolutions). A table has, for each point, the work in FLOP where torch has
formulas for it, the memory above what the process had before (the peak that the system reports, of a child of its own)
and the processor's seconds, medians of rounds in turn; the exponents are the slopes of log against log over the axis.
FLOP and memory do not depend on what else runs on the machine; times do, even as the processor's seconds.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

import vaebench as vb
from vaebench.core import DataSpec, Family
from vaebench.core.flops import FlopCount
from vaebench.data._measure import Measure
from vaebench.evaluation.estimators.likelihood import log_likelihood

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))
MIB = 2**20

Work = Callable[[], object]


class Axis(NamedTuple):
    """One quantity that grows.

    Attributes:
        what: is done once for a figure.
        values: of the quantity, the least first.
        make: prepares the work at a value.
        counted: whether FLOP are counted.
    """

    what: str
    values: tuple[int, ...]
    make: Callable[[int], Work]
    counted: bool = True


def model(side: int = 28, latent: int = 50, network: str | None = None) -> Family:
    """A VAE of random weights for binary images, ready to train."""
    torch.manual_seed(0)
    shape = (1, side, side)
    source = SimpleNamespace(spec=DataSpec(shape, "binary", torch.full(shape, 0.2), 50_000))
    parts: dict[str, Any] = {}
    if network:
        net = {"class_path": f"vaebench.networks.{network}", "init_args": {"channels": 16}}
        for part, name in (("posterior", "posteriors.DiagonalGaussian"), ("likelihood", "likelihoods.Bernoulli")):
            parts[part] = {"class_path": f"vaebench.{name}", "init_args": {"net": net}}
    made = vb.build("vae", source, latent=latent, **parts)
    made.configure_optimizers()
    return made


def step(batch: int = 128, side: int = 28, latent: int = 50, network: str | None = None) -> Work:
    """A training step."""
    vae, x = model(side, latent, network), (torch.rand(batch, 1, side, side) < 0.2).float()
    return lambda: vae.learn(x, None)


def likelihood(k: int) -> Work:
    """log p(x) of eight images by k samples each."""
    vae, x = model(), (torch.rand(8, 1, 28, 28) < 0.2).float()
    return lambda: log_likelihood(vae, x, k=k)


def population(members: int) -> Work:
    """A step of all members, in one lane."""
    from population import Together

    together = Together(20, list(range(members)), "cpu", members, compile=False)
    return lambda: together.train(1)


def fixed(thousands: int) -> Work:
    """The fixed draw of so many thousand images of 64 × 64 in colour under a continuous measure."""
    levels = torch.zeros(1000 * thousands, 3, 64, 64, dtype=torch.uint8)
    return lambda: Measure("continuous", 256).fixed(levels, 0)


def take(running: int = 4, finished: int = 20, sampler: str = "tpe") -> Work:
    """A trial taken from an SQLite storage, beside running and finished ones."""
    from optuna.distributions import FloatDistribution, IntDistribution
    from optuna.trial import TrialState, create_trial

    from vaebench.sweep.spec.spec import read_sweep
    from vaebench.sweep.storage.queue import take as taken
    from vaebench.sweep.storage.study import connect, create_study

    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name, "sweep.yaml")
    space = "{model.beta: {float: [0.1, 10], log: true}, model.latent: {int: [1, 9]}}"
    file.write_text(f"space: {space}\nsampler: {sampler}\nstop: {{trials: 1000000}}\nheartbeat: 3600\n")
    sweep = read_sweep(file)
    storage = connect(sweep, f"sqlite:///{folder.name}/sweep.db")
    study = create_study(sweep, storage, resume=False)
    kinds = {"model.beta": FloatDistribution(0.1, 10, log=True), "model.latent": IntDistribution(1, 9)}
    rng = np.random.default_rng(0)
    for index in range(finished + running):
        state, values = (TrialState.COMPLETE, [rng.normal()]) if index < finished else (TrialState.RUNNING, None)
        settings = {"model.beta": float(rng.uniform(0.1, 10)), "model.latent": int(rng.integers(1, 10))}
        study.add_trial(create_trial(state=state, params=settings, distributions=kinds, values=values))
    for trial in study.get_trials(deepcopy=False)[finished:]:
        storage.record_heartbeat(trial._trial_id)

    def work(_: object = folder) -> None:
        taken(sweep, storage, study)

    return work


AXES = {
    "batch": Axis("a training step", (32, 128, 512, 2048), lambda n: step(batch=n)),
    "latents": Axis("a training step", (16, 64, 256, 1024), lambda n: step(latent=n)),
    "image side": Axis("a training step, convolutions", (28, 64, 128), lambda n: step(32, n, network="Conv")),
    "image side, MLP": Axis("a training step", (28, 64, 128), lambda n: step(side=n)),
    "K": Axis("log p(x) of 8 images", (100, 1000, 10_000), likelihood),
    "members": Axis("a step of a population, batch 20", (1, 4, 16, 64), population),
    "thousands of images": Axis("the fixed draw of 3 × 64 × 64", (1, 4, 16), fixed, counted=False),
    "running trials": Axis("a take with TPE", (4, 16, 64, 256), lambda n: take(running=n), counted=False),
    "trials": Axis("a take with TPE, 4 running", (50, 200, 800), lambda n: take(finished=n), counted=False),
}


class Figures(NamedTuple):
    """Of one point: FLOP (None: not counted), MiB at the peak, and seconds of the processor."""

    flop: float | None
    mib: float
    seconds: float


def measure(axis: Axis, value: int) -> Figures:
    """Measures one point in a child, so that its memory is its own; repeats short work for 0.2 s."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_measure, args=(axis, value, theirs))
    child.start()
    theirs.close()
    try:
        return Figures(*ours.recv())
    finally:
        child.join()


def _measure(axis: Axis, value: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    work = axis.make(value)
    work()  # what is made once, such as moments
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system, or the next peak would not show
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    work()
    mib = (_status("VmHWM") - before) / 1024
    count, began = 0, time.process_time()
    while count == 0 or time.process_time() - began < 0.2:
        work()
        count += 1
    seconds = (time.process_time() - began) / count
    flop = None
    if axis.counted:
        with FlopCount() as counter:
            work()
        flop = float(counter.flops.total)
    pipe.send((flop, mib, seconds))


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def exponent(values: list[int], figures: list[float]) -> float:
    """Slope of log(figure) against log(value), by least squares."""
    x, y = np.log(values), np.log(np.maximum(figures, 1e-12))
    return float(np.polyfit(x, y, 1)[0])


def chart(path: Path, found: dict[str, dict[int, Figures]]) -> None:
    """Draws every axis's time and memory, as multiples of its first point."""
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, subplot_titles=["time of the processor", "memory at the peak"])
    for name, points in found.items():
        first = next(iter(points))
        x = [value / first for value in points]
        for column, field in ((1, "seconds"), (2, "mib")):
            y = [getattr(point, field) / max(getattr(points[first], field), 1e-9) for point in points.values()]
            figure.add_scatter(x=x, y=y, name=name, mode="lines+markers", row=1, col=column)
    figure.update_xaxes(type="log", title="× the least value").update_yaxes(type="log", title="× its figure")
    figure.update_layout(title="Growth", template="simple_white").write_html(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--axis", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--chart", type=Path, help="draw it to this HTML page")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print("| axis | of | value | MFLOP | MiB | ms |\n| --- | --- | ---: | ---: | ---: | ---: |")
    found: dict[str, dict[int, Figures]] = {}
    for name in arguments.axis:
        axis = AXES[name]
        rounds = [{value: measure(axis, value) for value in axis.values} for _ in range(arguments.rounds)]
        found[name] = points = {
            value: Figures(
                rounds[0][value].flop,
                statistics.median(one[value].mib for one in rounds),
                statistics.median(one[value].seconds for one in rounds),
            )
            for value in axis.values
        }
        for value, point in points.items():
            work = "–" if point.flop is None else f"{point.flop / 1e6:,.0f}"
            print(f"| {name} | {axis.what} | {value:,} | {work} | {point.mib:,.1f} | {1000 * point.seconds:,.1f} |")
        values = list(points)
        flops = [point.flop for point in points.values() if point.flop is not None]
        powers = [exponent(values, flops) if flops else math.nan] + [
            exponent(values, [point[field] for point in points.values()])
            for field in (1, 2)  # type: ignore[misc]
        ]
        words = ["–" if math.isnan(power) else f"**{power:.2f}**" for power in powers]
        print(f"| | exponent | | {' | '.join(words)} |", flush=True)
    if arguments.chart:
        chart(arguments.chart, found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
