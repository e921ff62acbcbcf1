"""log p(x) by refined proposals against long annealed importance sampling, for trained checkpoints.

    VAEBENCH_DATA=… .venv/bin/python benchmarks/refined.py CHECKPOINT… [--data binarized_mnist] [--images 32] [--k 1000]

Prints a row for each: how far the encoder's L_5000, the refined L_K, and chains from the refined proposals lie from
the reference; the share of images with k̂ > 0.7 and the effective sample size of either; passes through the decoder;
images/s. The reference is the log-mean of chains from the refined proposals and of chains from the prior, many times
as long as any estimate, and a lower bound itself. Standard errors are over images. --certify adds upper less lower
bound on images of the model's own.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor

import vaebench as vb
from vaebench.core import Family
from vaebench.evaluation.conditions import evaluation_mode
from vaebench.evaluation.estimators import ais, brackets, refined
from vaebench.evaluation.estimators.chains import ChainSettings
from vaebench.evaluation.estimators.likelihood import estimate, no_density
from vaebench.evaluation.estimators.proposals import Effort
from vaebench.evaluation.estimators.weights import TRUSTED
from vaebench.evaluation.measurements._refined import untrusted

COLUMNS = ("model", "encoder − reference", "refined − reference", "chains − reference", "untrusted: encoder", "refined",
           "ESS/K: encoder", "refined", "passes", "images/s: encoder", "refined")  # fmt: skip
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", default="binarized_mnist")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--encoder-k", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=Effort().rounds)
    parser.add_argument("--samples", type=int, default=Effort().samples)
    parser.add_argument("--temperatures", type=int, default=200, help="of 16 reference chains from the proposals")
    parser.add_argument("--prior-temperatures", type=int, default=500, help="of 8 reference chains from the prior")
    parser.add_argument("--anneal", action="store_true", help="short chains where a pilot finds a Gaussian not enough")
    parser.add_argument("--certify", type=int, default=0, help="images of the model's own")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    x = vb.datasets()[arguments.data]().images("test")
    x = x[torch.linspace(0, len(x) - 1, arguments.images).round().long()]
    print(f"{len(x)} images of {arguments.data}, K = {arguments.k}, {torch.get_num_threads()} threads\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
    for path in arguments.checkpoints:
        model = vb.load(path).eval()
        with evaluation_mode(model, CPU):
            print("| " + " | ".join([path.parent.name if path.stem == "model" else path.stem,
                                     *row(model, x, arguments)]) + " |", flush=True)  # fmt: skip


def row(model: Family, x: Tensor, arguments: argparse.Namespace) -> list[str]:
    """The figures of one model."""
    effort = Effort(rounds=arguments.rounds, samples=arguments.samples)
    names, k = list(range(len(x))), arguments.k
    reference = _log_mean(
        brackets.anneal_refined(model, x, 1, effort, ChainSettings(16, arguments.temperatures), names).lower,
        ais.annealed(model, x, ais.AnnealingSettings(8, arguments.prior_temperatures), 1).lower,
    )
    chains = brackets.anneal_refined(model, x, 0, effort, ChainSettings(), names).lower
    start = time.perf_counter()
    found = refined.estimate(model, x, k, 0, effort, anneal=arguments.anneal)
    seconds = time.perf_counter() - start
    far = float(found.annealed.mean())
    scored = (1 - far) * k + far * refined.SHORT.passes + arguments.anneal * refined.JUDGES
    passes = round(effort.passes(model.prior().event_shape.numel()) + scored)
    own = [f"{float(untrusted(found).double().mean()):.2f}", f"{float(found.ess.mean()) / k:.3f}"]
    speed = f"{len(x) / seconds:.1f}"
    theirs = ["–"] * 4
    if no_density(model, x[:1]) is None:
        start = time.perf_counter()
        encoder = estimate(model, x, arguments.encoder_k)
        theirs = [
            _mean(encoder.log_likelihood - reference),
            f"{_share(encoder.pareto_k):.2f}",
            f"{float(encoder.ess.mean()) / arguments.encoder_k:.3f}",
            f"{len(x) / (time.perf_counter() - start):.1f}",
        ]
    figures = [theirs[0], _mean(found.log_likelihood - reference), _mean(chains - reference), theirs[1], own[0]]
    figures += [theirs[2], own[1], f"{passes:,}", theirs[3], speed]
    if arguments.certify:
        both = brackets.certificate(model, 0, arguments.certify, k, 0, effort, CPU, arguments.anneal)
        figures.append(f"U − L {_mean(both.upper - both.lower)}")
    return figures


def _log_mean(a: Tensor, b: Tensor) -> Tensor:
    return torch.logaddexp(a, b) - math.log(2)


def _mean(values: Tensor) -> str:
    return f"{float(values.mean()):+.3f} ± {float(values.std()) / math.sqrt(len(values)):.3f}"


def _share(shapes: Tensor) -> float:
    return float((shapes > TRUSTED).double().mean())


if __name__ == "__main__":
    main()
