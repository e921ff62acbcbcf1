"""K-sample log-likelihoods/s: `vaebench.log_likelihood` in f32 and bf16 against pythae's `get_nll`, interleaved.

    VAEBENCH_DATA=… .venv/bin/python benchmarks/likelihood.py [--k 5000] [--images 256] [--rounds 5] [--checkpoint FILE]

Needs static MNIST and `pip install -c constraints.txt -e ".[peers]"`. All three score the same images with the same
networks; without a checkpoint a model is trained for two epochs first. bf16's error is against f32 with the same noise.
Last, the adapter of docs/adapters.md around pythae's model is held against the model itself.
"""

from __future__ import annotations

import argparse
import logging
import math
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor
from work import interleaved, pythae_adapter, pythae_vae

import vaebench as vb
from vaebench.core import Family
from vaebench.data.binarized_mnist import BinarizedMNIST
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators.likelihood import estimate
from vaebench.evaluation.estimators.scoring import Precision, scorer
from vaebench.training.experiment import experiment
from vaebench.training.solo import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=5000)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    model = vb.load(arguments.checkpoint) if arguments.checkpoint else _trained()
    x = BinarizedMNIST().images("test")[: arguments.images]
    peer = pythae_vae(model.posterior.net, model.likelihood.net).eval()
    values: dict[str, Tensor] = {}

    def ours(precision: Precision, compile: bool = False) -> Callable[[], float]:
        run = prepared(model, x, arguments.k, precision, compile)

        def timed() -> float:
            start = time.perf_counter()
            values[precision] = run()
            return len(x) / (time.perf_counter() - start)

        return timed

    def shared() -> float:
        start = time.perf_counter()
        for process in helpers:
            process.send(None)
        for process in helpers:
            process.recv()
        return len(x) / (time.perf_counter() - start)

    def pythae() -> float:
        few = x[: max(4, len(x) // 8)]
        start = time.perf_counter()
        with torch.no_grad():
            values["pythae"] = torch.as_tensor(peer.get_nll(few, n_samples=arguments.k, batch_size=100))
        return len(few) / (time.perf_counter() - start)

    print(f"K = {arguments.k}, {len(x)} images, {torch.get_num_threads()} threads\n")
    contestants = {
        "pythae get_nll": pythae,
        "vaebench f32": ours("f32"),
        "vaebench f32, compiled": ours("f32", True),
        "vaebench bf16": ours("bf16"),
        "vaebench bf16, compiled": ours("bf16", True),
        f"the same, {torch.get_num_threads()} processes": shared,
    }
    print(f"f32 matrix products reach {_peak():.0f} GF/s; an image takes {_work(model, arguments.k):.2f} GF\n")
    helpers = [start_helper(model, part, arguments.k) for part in x.chunk(torch.get_num_threads())]
    interleaved(contestants, arguments.rounds, "pythae get_nll")
    difference = (values["bf16"] - values["f32"]).double()
    largest = difference.abs().max()
    print(f"\nbf16 − f32 with the same noise: mean {difference.mean():+.4f}, largest {largest:.4f} nats an image")
    few = x[: max(4, len(x) // 8)]
    judged, exact = vb.log_likelihood(pythae_adapter(peer), few, k=arguments.k), values["f32"][: len(few)]
    print(
        f"pythae's model in the adapter of docs/adapters.md: off by {(judged - exact).abs().max():.1e} nats at most "
        f"with the same noise; mean log p(x) {judged.mean():.2f}, and {float(values['pythae']):.2f} by get_nll"
    )


def prepared(model: Family, x: Tensor, k: int, precision: Precision, compile: bool) -> Callable[[], Tensor]:
    """The estimate as an evaluation makes it: one score for all shards, which compiles once."""
    score = scorer(model, precision, compile)

    def run() -> Tensor:
        with evaluation_mode(model, torch.device("cpu")):
            return estimate(model, x, k, score=score).log_likelihood

    return run


def start_helper(model: Family, x: Tensor, k: int) -> Connection:
    """One of the processes of `vaebench evaluate --processes N --precision bf16 --compile`, with its images."""
    ours, theirs = multiprocessing.Pipe()
    target = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, model, x, k), daemon=True)
    target.start()
    return ours


def _serve(lead: Connection, model: Family, x: Tensor, k: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    run = prepared(model, x, k, "bf16", True)
    with suppress(EOFError):  # the lead has ended
        while True:
            lead.recv()
            run()
            lead.send(None)


def _peak(size: int = 2000) -> float:
    """GF/s of a square matrix product, the best of ten."""
    a, best = torch.randn(size, size), math.inf
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def _work(model: Family, k: int) -> float:
    """GF to decode k samples of one image."""
    return 2 * k * sum(p.numel() for p in model.likelihood.parameters() if p.dim() == 2) / 1e9


def _trained() -> Family:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(__file__).parent.parent / "configs" / "family" / "vae.yaml"
        job = experiment([f"--config={config}", "--data=binarized_mnist", "--trainer.max_epochs=2"])
        return vb.load(train(job, Path(folder)))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main()
