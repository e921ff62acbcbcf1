"""What a training step and an estimate of log p(x) cost with each posterior and prior, in units of the plain VAE's.

    python benchmarks/latents.py [--batch 128] [--steps 50] [--rounds 5] [--k 500] [--images 20] [--name NAME ...]

The configurations are those of `configs/family/` that `configs/benchmark/latents.yaml` compares, and those that are
the VAE with another part; all run in turn in one process, families of two stages in their first. A step is the
objective, its gradient and the optimiser's update, on random bits of 784 pixels: no data set is read, and nothing is
written but the table. Memory is that of the tensors which a step keeps for its gradient, besides the model's own.
Times are the processor's.
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
from torch import Tensor
from work import in_turn, spread

import vaebench as vb
from vaebench.core import DataSpec, Family
from vaebench.evaluation.estimators.likelihood import log_likelihood

CONFIGS = Path(__file__).parent.parent / "configs" / "family"
SHAPE, BASE = (1, 28, 28), "vae"
COMPARED = CONFIGS.parent / "benchmark" / "latents.yaml"


def main() -> None:
    configs = {path.stem: yaml.safe_load(path.read_text())["model"] for path in sorted(CONFIGS.glob("*.yaml"))}
    compared = {Path(run["configs"][0]).stem for run in yaml.safe_load(COMPARED.read_text())["runs"].values()}
    vae = configs[BASE]["class_path"]
    configs = {name: c for name, c in configs.items() if name in compared or c["class_path"] == vae}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50, help="of each configuration a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--k", type=int, default=500, help="samples an image of log p(x)")
    parser.add_argument("--images", type=int, default=20, help="of which log p(x) is estimated a round")
    parser.add_argument("--name", nargs="+", choices=sorted(configs), default=sorted(configs))
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    names = list(dict.fromkeys([BASE, *arguments.name]))
    x = (torch.rand(arguments.batch, *SHAPE, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    models = {name: _model(configs[name]) for name in names}
    training = in_turn({n: _steps(m, x, arguments.steps) for n, m in models.items()}, arguments.rounds)
    scoring = in_turn({n: _scores(m, x[: arguments.images], arguments.k) for n, m in models.items()}, arguments.rounds)
    print(f"batch {arguments.batch}, K = {arguments.k}, {torch.get_num_threads()} threads, times of the processor\n")
    print(f"| configuration | parameters | ms a step | × {BASE} | kept (MB) | ms an image, K | × {BASE} | spread |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in sorted(names, key=lambda name: statistics.median(training[name])):
        step, image = (1000 * statistics.median(times[name]) for times in (training, scoring))
        ratios = [_ratio(times, name) for times in (training, scoring)]
        size = sum(p.numel() for p in models[name].parameters())
        print(f"| {name} | {size:,} | {step:.2f} | {ratios[0]:.2f} | {_kept(models[name], x)} | {image:.2f} | "
              f"{ratios[1]:.2f} | ± {spread(training[name]):.0f} % |")  # fmt: skip


def _model(config: dict[str, Any]) -> Family:
    torch.manual_seed(0)
    examples = (torch.rand(1000, *SHAPE) < 0.2).float()
    source = SimpleNamespace(spec=DataSpec(SHAPE, "binary", torch.full(SHAPE, 0.2), 50_000, examples))
    model = vb.build(config["class_path"].split(".")[-2], source, **config["init_args"])
    model.configure_optimizers()
    return model


def _ratio(times: dict[str, list[float]], name: str) -> float:
    return statistics.median(own / base for own, base in zip(times[name], times[BASE], strict=True))


def _steps(model: Family, x: Tensor, steps: int) -> Callable[[], float]:
    """A function that takes so many training steps and returns the seconds of each."""

    def run() -> float:
        start = time.process_time()
        for _ in range(steps):
            model.learn(x, None)
        return (time.process_time() - start) / steps

    return run


def _scores(model: Family, x: Tensor, k: int) -> Callable[[], float]:
    """A function that estimates log p(x) of the images and returns the seconds of each."""

    def run() -> float:
        start = time.process_time()
        log_likelihood(model, x, k=k)
        return (time.process_time() - start) / len(x)

    return run


def _kept(model: Family, x: Tensor) -> str:
    """Megabytes of tensors that a step keeps for its gradient, each storage once, without the model's own; a dash
    where the step itself takes gradients, with torch.func, which does not let them be counted."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.step(x, None, torch.tensor(0.0))
    except RuntimeError:
        return "–"
    return f"{sum(seen.values()) / 1e6:.1f}"


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main()
