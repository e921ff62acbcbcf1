"""A network in which each output reads its own subset of the latents."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from vaebench.measures import Shape
from vaebench.networks import ACTIVATIONS, Activation, Linear, Network


class _Heads(nn.Module):
    """A linear map per output, (b, outputs, width) -> (b, outputs), initialised like `torch.nn.Linear`."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        start = nn.Linear(width, outputs)
        self.weight = nn.Parameter(start.weight.detach().clone())
        self.bias = nn.Parameter(start.bias.detach().clone())

    def forward(self, h: Tensor) -> Tensor:
        return (h * self.weight).sum(-1) + self.bias


class SparseMLP(Network):
    """Output d is f_d(w_d ∘ z): latents masked by a row of weights, a shared network, and a linear head per output.

    With w_dj = 0, output d does not depend on latent j. Moran et al. 2022 (https://arxiv.org/abs/2110.10804). The
    shared layers run once per output, so that cost and memory are prod(outputs) times those of an `MLP` of the width.

    Args:
        inputs: shape of one input, (n,).
        outputs: shape of one output.
        width: units of every shared layer.
        depth: number of shared layers, 1 or more.
        activation: after every shared layer.
    """

    def __init__(
        self, inputs: Shape, outputs: Shape, width: int = 50, depth: int = 2, activation: Activation = "tanh"
    ) -> None:
        super().__init__(inputs, outputs)
        sizes = [prod(inputs), *[width] * depth]
        self.width, self.mask = width, nn.Parameter(torch.randn(prod(outputs), prod(inputs)))
        self.layers = nn.ModuleList([*(Linear(a, b) for a, b in pairwise(sizes)), _Heads(width, prod(outputs))])
        self.activation = activation

    @property
    def output_bias(self) -> nn.Parameter:  # type: ignore[override]  # a view of the last layer, registered once
        return self.layers[-1].bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, 1, prod(self.inputs))
        # Activations of a few latents fit a processor's cache: a quarter of the time of all latents at once.
        few = len(rows) if x.is_cuda else max(1, 2**17 // self.mask.shape[0] // self.width)
        y = torch.cat([self._decode(part) for part in rows.split(few)])
        return y.reshape(*x.shape[: x.dim() - len(self.inputs)], *self.outputs)

    def _decode(self, rows: Tensor) -> Tensor:
        """(b, 1, n) to (b, outputs)."""
        act = ACTIVATIONS[self.activation]
        h = (rows * self.mask).flatten(0, 1)  # (b outputs, n)
        for layer in self.layers[:-1]:
            h = act(layer(h))
        return self.layers[-1](h.unflatten(0, (-1, len(self.mask))))
