"""A population against the same runs one after another, and against two processes of one thread each; images/s of all.

    VAEBENCH_DATA=… .venv/bin/python benchmarks/population.py [--batch 128] [--members 16] [--steps 60] [--rounds 5]
    VAEBENCH_DATA=… .venv/bin/python benchmarks/population.py --device cuda --chart population.html

The runs are `configs/family/vae.yaml` on static MNIST, each with a seed of its own. A solo run is the family's own step
in a bare loop with fused Adam, without Lightning. `--chart` draws images/s for 1, 2, 4, … members until memory ends.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import multiprocessing
import tempfile
import time
import warnings
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from work import interleaved

from vaebench.core import Family
from vaebench.training.experiment import Experiment, experiment
from vaebench.training.population import Population
from vaebench.training.population.lane import Lane
from vaebench.training.population.threads import side_by_side

CONFIG = Path(__file__).parent.parent / "configs" / "family" / "vae.yaml"


def run(batch: int, seed: int) -> Experiment:
    return experiment([f"--config={CONFIG}", "--data=binarized_mnist", f"--data.batch_size={batch}",
                       f"--seed_everything={seed}", "--trainer.max_epochs=1"])  # fmt: skip


class Solos:
    """Runs one after another on one device, each in a bare loop."""

    def __init__(self, batch: int, seeds: list[int], device: str = "cpu") -> None:
        torch.set_flush_denormal(True)
        built = [run(batch, seed).build() for seed in seeds]
        self.models: list[Family] = [model.to(device) for model, _ in built]
        self.optimizers = [torch.optim.Adam(model.parameters(), 1e-3, fused=True) for model in self.models]
        data = built[0][1]
        data.device = torch.device(device)
        self.batches = data.training_batches(0)

    def train(self, steps: int) -> None:
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            for t, (x, y) in enumerate(islice(self.batches, steps)):
                optimizer.zero_grad()
                model.step(x, y, torch.tensor(float(t), device=x.device)).losses["model"].backward()
                optimizer.step()


class Together:
    """The same runs as a population, in lanes of `size` members; None measures which."""

    def __init__(
        self, batch: int, seeds: list[int], device: str = "cpu", size: int | None = None, compile: bool = True
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            population = Population(device, size, compile=compile)
            members = [population.add(run(batch, seed), Path(folder, str(seed))) for seed in seeds]
        population._arrange(members)
        self.lanes, (self.batches, _) = population._lanes, population._batches[members[0].source]

    def train(self, steps: int) -> None:
        side_by_side([partial(self._walk, lane, steps) for lane in self.lanes], self.lanes[0].device)

    def _walk(self, lane: Lane, steps: int) -> None:
        for x, y in islice(lane.batches(self.batches), steps):
            lane.step(x, y)


def _serve(batch: int, seeds: list[int], pipe: Connection) -> None:
    """In a process of its own: trains as often as it is told to, on one thread."""
    torch.set_num_threads(1)
    solos = Solos(batch, seeds)
    pipe.send("ready")
    while steps := pipe.recv():
        solos.train(steps)
        pipe.send("done")


class Processes:
    """The same runs in two processes of one thread each, half of them in each."""

    def __init__(self, batch: int, seeds: list[int]) -> None:
        spawn, self.pipes = multiprocessing.get_context("spawn"), []
        for share in (seeds[::2], seeds[1::2]):
            own, other = spawn.Pipe()
            spawn.Process(target=_serve, args=(batch, share, other), daemon=True).start()
            self.pipes.append(own)
        self._wait()

    def _wait(self) -> None:
        for pipe in self.pipes:
            pipe.recv()

    def train(self, steps: int) -> None:
        for pipe in self.pipes:
            pipe.send(steps)
        self._wait()

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(0)


def speed(contestant: Any, images: int, steps: int, device: str) -> float:
    """Images a second of some steps of every run."""
    start = time.perf_counter()
    contestant.train(steps)
    if device != "cpu":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - start)


def chart(path: Path, batch: int, steps: int, device: str) -> None:
    """Prints and draws images/s of ever more members, all in one lane, beside a solo run's."""
    from plotly import graph_objects

    solo = Solos(batch, [0], device)
    solo.train(steps)
    base = speed(solo, batch * steps, steps, device)
    print(f"solo {base:.0f} images/s\n| members | images/s | × solo |\n| ---: | ---: | ---: |")
    counts, speeds = [], []
    for members in (2**i for i in itertools.count()):
        try:
            together = Together(batch, list(range(members)), device, members)
            together.train(3)
            best = max(speed(together, members * batch * steps, steps, device) for _ in range(3))
        except torch.OutOfMemoryError:
            break
        counts.append(members)
        speeds.append(best)
        print(f"| {members} | {best:.0f} | {best / base:.1f} |", flush=True)
        if members >= 64 and best < 1.05 * max(speeds[:-1]):
            break
    name = torch.cuda.get_device_name() if device != "cpu" else f"CPU, {torch.get_num_threads()} threads"
    figure = graph_objects.Figure(graph_objects.Scatter(x=counts, y=speeds, mode="lines+markers", name="population"))
    figure.add_hline(base, line_dash="dot", annotation_text="one solo run")
    figure.update_layout(title=f"Members trained as one, batch {batch}: {name}", template="simple_white")
    figure.update_xaxes(title="members", type="log").update_yaxes(title="images/s of all", type="log")
    figure.write_html(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--chart", type=Path, help="draw images/s against members to this HTML page instead")
    arguments = parser.parse_args()
    batch, steps, device = arguments.batch, arguments.steps, arguments.device
    if arguments.chart:
        chart(arguments.chart, batch, steps, device)
        return
    seeds = list(range(arguments.members))
    populations = {"population": Together(batch, seeds, device, compile=False),
                   "population, compiled": Together(batch, seeds, device)}  # fmt: skip
    contestants = {"solo, one after another": Solos(batch, seeds, device), **populations}
    with contextlib.ExitStack() as stack:
        if device == "cpu":
            processes = stack.enter_context(contextlib.closing(Processes(batch, seeds)))
            contestants["two processes, one thread each"] = processes
        print(f"batch {batch}, {len(seeds)} runs of {steps} steps on {device}, {torch.get_num_threads()} threads")
        for name, population in populations.items():
            print(f"{name}: lanes of {[len(lane.members) for lane in population.lanes]}")
        print()
        images = len(seeds) * batch * steps
        runs = {name: partial(speed, contestant, images, steps, device) for name, contestant in contestants.items()}
        interleaved(runs, arguments.rounds, "solo, one after another")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main()
