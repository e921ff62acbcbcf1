"""What the arithmetic of a step costs as the suite has it, beside closed forms and one autograd function.

    python benchmarks/arithmetic.py [--batch 128] [--repeats 200] [--rounds 15]

Forward and backward of the rate of a diagonal Gaussian, of a Bernoulli's log-density from logits, also of eight members
of a population at once, and of tanh, in turn, by the seconds of the processor. Ratios are to the suite's own; values
and gradients are compared first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from work import LATENT, in_turn, spread

from vaebench.distributions import Bernoulli, DiagonalNormal
from vaebench.distributions.divergences import divergence
from vaebench.networks import tanh

Forward = Callable[[], Tensor]


class FromLogits(torch.autograd.Function):
    """Σ_d x_d l_d − softplus(l_d), with x − σ(l) as its gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return torch.mul(logits, x).sub_(F.softplus(logits)).sum(-1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *given: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.sub(x, torch.sigmoid(logits)).mul_(given[0][..., None]), None


def rates(batch: int) -> dict[str, tuple[Forward, list[Tensor]]]:
    """The rate of N(μ, σ²) under N(0, 1) from (μ, log σ), by each way, with what it is differentiated by."""
    mean, log_scale = (torch.randn(batch, LATENT, requires_grad=True) for _ in range(2))
    p = DiagonalNormal(torch.zeros(LATENT), torch.ones(LATENT))

    def own() -> Tensor:
        return divergence(DiagonalNormal(mean, log_scale.exp()), p, mean[None]).sum()

    def closed() -> Tensor:
        return (0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale).sum()

    return {"as it is": (own, [mean, log_scale]), "closed, from log σ": (closed, [mean, log_scale])}


def densities(batch: int) -> dict[str, tuple[Forward, list[Tensor]]]:
    """log p(x) of bits under logits, by each way."""
    logits, x = torch.randn(batch, 784, requires_grad=True), (torch.rand(batch, 784) < 0.2).float()
    return {
        "as it is": (lambda: Bernoulli(logits).log_prob(x).sum(), [logits]),
        "cross-entropy of torch": (lambda: -F.binary_cross_entropy_with_logits(logits, x, reduction="sum"), [logits]),
        "one autograd function": (lambda: FromLogits.apply(logits, x).sum(), [logits]),
    }


def members(batch: int, count: int = 8) -> dict[str, tuple[Forward, list[Tensor]]]:
    """log p(x) of bits under the logits of several members, which `torch.func.vmap` computes at once, by each way."""
    x = (torch.rand(batch, 784) < 0.2).float()
    logits = torch.randn(count, batch, 784, requires_grad=True)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "as it is": lambda own: Bernoulli(own).log_prob(x).sum(),
        "cross-entropy of torch": lambda own: -F.binary_cross_entropy_with_logits(own, x, reduction="sum"),
    }

    def at_once(way: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.func.vmap(way)(logits).sum()

    return {name: (partial(at_once, way), [logits]) for name, way in ways.items()}


def activations(batch: int) -> dict[str, tuple[Forward, list[Tensor]]]:
    """tanh of 200 hidden units, by each way."""
    x = torch.randn(batch, 200, requires_grad=True)
    return {"as it is": (lambda: tanh(x).sum(), [x]), "torch.tanh": (lambda: torch.tanh(x).sum(), [x])}


def compare(what: str, ways: dict[str, tuple[Forward, list[Tensor]]], repeats: int, rounds: int) -> None:
    """Prints a table of the ways, after a comparison of their values and gradients."""
    expected = _value_and_gradients(*ways["as it is"])
    for forward, inputs in ways.values():
        torch.testing.assert_close(_value_and_gradients(forward, inputs), expected)

    def timed(forward: Forward, inputs: list[Tensor]) -> float:
        start = time.process_time()
        for _ in range(repeats):
            torch.autograd.grad(forward(), inputs)
        return (time.process_time() - start) / repeats

    times = in_turn({name: partial(timed, *way) for name, way in ways.items()}, rounds)
    print(f"| {what} | µs | × as it is | spread |\n| --- | ---: | ---: | ---: |")
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, times["as it is"], strict=True))
        print(f"| {name} | {1e6 * statistics.median(own):.0f} | {ratio:.2f} | ± {spread(own):.0f} % |")
    print()


def _value_and_gradients(forward: Forward, inputs: list[Tensor]) -> list[Tensor]:
    value = forward()
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"batch {arguments.batch}, {torch.get_num_threads()} threads\n")
    compare("rate", rates(arguments.batch), arguments.repeats, arguments.rounds)
    compare("log p(x given z)", densities(arguments.batch), arguments.repeats, arguments.rounds)
    compare("the same, 8 members", members(20), arguments.repeats, arguments.rounds)
    compare("tanh", activations(arguments.batch), arguments.repeats, arguments.rounds)


if __name__ == "__main__":
    main()
