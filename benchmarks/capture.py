"""Training steps as they are against the same steps captured as CUDA graphs, alone and in populations; needs a GPU.

    python benchmarks/capture.py [--batch 128] [--seconds 150] [--json capture.json]

The models are VAEs on random images of 28 × 28, with 50 latents and tanh 200-200: alone, with several objectives and
priors, and as populations of 1 to 256 members that share a batch. Each pair is first trained for 20 steps from the same
state, and the last column is the largest difference of the weights. Then both run in turn, and a row has medians of
what the host launches in a step, and of a step's time. It ends after `--seconds`, with the rows that it has by then.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import vaebench as vb
from vaebench.core import DataSpec, Family
from vaebench.core.captured import Captured
from vaebench.training.experiment import experiment
from vaebench.training.population import Member, Population
from vaebench.training.population.lane import Lane

SHAPE = (1, 28, 28)
VAMP = {"class_path": "vaebench.priors.vamp.VampPrior"}
ALONE: dict[str, dict[str, Any]] = {"vae": {}, "iwae": {"k": 5}, "factor_vae": {}, "vae, VampPrior": {"prior": VAMP}}
MEMBERS = (1, 4, 16, 64, 256)
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaMemcpy", "cudaMemset", "cudaGraphLaunch")
CHECKED, ROUNDS = 20, 5


class Way(NamedTuple):
    """A step, and the tensors that it changes."""

    step: Callable[[], object]
    state: list[Tensor]


def images(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, *SHAPE, generator=generator) < 0.2).float()


def alone(name: str, batch: int, captured: bool) -> Way:
    """A family's own step, as `vaebench fit` makes it."""
    torch.manual_seed(0)
    source = SimpleNamespace(spec=DataSpec(SHAPE, "binary", torch.full(SHAPE, 0.2), 50_000))
    model: Family = vb.build(name.partition(",")[0], source, latent=50, **ALONE[name]).cuda().train()
    model.captured = Captured(f"the step of {name}", model.lr.device) if captured else None
    model.configure_optimizers()
    x, y = images(batch).cuda(), torch.arange(batch).cuda() % 10
    return Way(lambda: model.learn(x, y), [*model.parameters()])


def together(member: Member, members: int, batch: int, captured: bool) -> Way:
    """A step of a lane of equal members with noise of their own."""
    twins = [member.twin() for _ in range(members)]
    for seed, twin in enumerate(twins):
        twin.generator.manual_seed(seed)
    lane, x = Lane(twins, capture=captured), images(batch).cuda()[None]
    return Way(lambda: lane.step(x, None), [*lane.parameters.values()])


def member(folder: Path) -> Member:
    """A run of the family `vae` on images of the right shape, ready to be copied."""
    np.save(folder / "images.npy", images(2000).numpy().astype(np.uint8))
    run = [f"--data.path={folder / 'images.npy'}", "--data.range=[0,1]", "--data.measure=binary", "--model=vae"]
    return Population("cuda").add(experiment(["--data=arrays", *run, "--trainer.max_epochs=1"]), folder / "run")


def milliseconds(step: Callable[[], object], steps: int) -> float:
    """Time of a step, in which the GPU has come to its end."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start) / steps


def launches(step: Callable[[], object]) -> int:
    """What the host launches in a step: kernels, copies and graphs."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        step()
        torch.cuda.synchronize()
    named = {event.key: event.count for event in found.key_averages()}
    return sum(number for name, number in named.items() if name.startswith(LAUNCHES))


def row(name: str, make: Callable[[bool], Way], images: int) -> dict[str, Any]:
    """Compares and times both ways, and prints a line."""
    ways = {captured: make(captured) for captured in (False, True)}
    states = []
    for way in ways.values():
        torch.manual_seed(1)
        for _ in range(CHECKED):
            way.step()
        states.append([value.detach().clone() for value in way.state])
    apart = max(float((a - b).abs().max()) for a, b in zip(*states, strict=True))
    steps = max(5, min(200, int(200 / milliseconds(ways[False].step, 5))))
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for captured, way in ways.items():
            times[captured].append(milliseconds(way.step, steps))
    plain, captured_ = (statistics.median(times[captured]) for captured in (False, True))
    counts = [launches(ways[captured].step) for captured in (False, True)]
    print(f"| {name} | {counts[0]} | {counts[1]} | {plain:.3f} | {captured_:.3f} | {plain / captured_:.2f} | "
          f"{1000 * images / captured_:,.0f} | {apart:.1g} |", flush=True)  # fmt: skip
    return {"launches": counts, "ms": [plain, captured_], "apart": apart}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "torch sees no GPU here, and CUDA graphs are what this measures: run it where it sees one", file=sys.stderr
        )
        return 2
    end, found, batch = time.perf_counter() + arguments.seconds, {}, arguments.batch
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batch {batch}\n")
    print("| step | launches | captured | ms | captured | × | images/s, captured | weights apart |\n"
          "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        one = member(Path(folder))
        rows = {name: (partial(alone, name, batch), batch) for name in ALONE}
        rows |= {f"{n} members": (partial(together, one, n, batch), n * batch) for n in MEMBERS}
        for name, (make, images) in rows.items():
            if time.perf_counter() > end:
                print(f"{name} and what follows was not measured: {arguments.seconds:.0f} seconds have passed")
                break
            found[name] = row(name, make, images)
    if arguments.json:
        arguments.json.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.exit(main())
