"""What a training step of every family costs, in units of the plain VAE's, on one network and interleaved in one run.

    python benchmarks/objectives.py [--batch 128] [--steps 50] [--rounds 5] [--family NAME ...]

Families are found by walking the package, with the settings of `configs/family/`, tanh 200-200 and 50 latents. A step
is the objective, every group's gradient and the optimiser's update, on random bits of 784 pixels with labels: no data
set is read, and nothing is written but the table. A family that takes no binary images has them as continuous ones.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from work import LATENT, in_turn, spread

import vaebench as vb
from vaebench.configuration.discovery import find_class, names
from vaebench.core import DataSpec
from vaebench.measures import BINARY, CONTINUOUS

CONFIGS = Path(__file__).parent.parent / "configs" / "family"
SHAPE, BASE = (1, 28, 28), "vae"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50, help="of each family a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--family", nargs="+", choices=names("family"), default=names("family"))
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    families = list(dict.fromkeys([BASE, *arguments.family]))
    print(f"batch {arguments.batch}, {LATENT} latents, {torch.get_num_threads()} threads\n")
    runs = {name: _steps(name, arguments.batch, arguments.steps) for name in families}
    times = {name: [1000 * arguments.batch / speed for speed in speeds]
             for name, speeds in in_turn(runs, arguments.rounds).items()}  # fmt: skip
    ratios = {
        name: statistics.median(own / base for own, base in zip(times[name], times[BASE], strict=True)) for name in runs
    }
    print(f"| family | settings | ms a step | × {BASE} | spread |\n| --- | --- | ---: | ---: | ---: |")
    for name in sorted(families, key=lambda name: ratios[name]):
        middle = statistics.median(times[name])
        print(f"| {name} | {_scalars(name)} | {middle:.2f} | {ratios[name]:.2f} | ± {spread(times[name]):.0f} % |")


def _settings(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["init_args"] | {"latent": LATENT}


def _scalars(name: str) -> str:
    """A family's own scalar settings, as `key value, …`."""
    own = {key: value for key, value in _settings(name).items() if key not in ("latent", "lr")}
    return ", ".join(f"{key} {value}" for key, value in own.items() if isinstance(value, bool | int | float | str))


def _steps(name: str, batch: int, steps: int) -> Callable[[], float]:
    """A function that takes so many training steps of a family and returns images a second."""
    torch.manual_seed(0)
    x, y = (torch.rand(batch, *SHAPE) < 0.2).float(), torch.arange(batch) % 10
    kinds = find_class("family", name).KINDS
    measure = BINARY if BINARY in kinds else CONTINUOUS
    source = SimpleNamespace(spec=DataSpec(SHAPE, measure, torch.full(SHAPE, 0.2), size=50_000))
    model = vb.build(name, source, **_settings(name))
    model.configure_optimizers()

    def run() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            model.learn(x, y)
        return steps * batch / (time.perf_counter() - start)

    return run


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main()
