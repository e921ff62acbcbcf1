"""Fully connected layers with gates."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from vaebench.measures import Shape
from vaebench.networks import Linear, Network, Start, begin


@final
class GatedMLP(Network):
    r"""Hidden layers h = (W x + b) ∘ σ(V x + c) of Dauphin et al. 2017, as in VampPrior models.

    The last layer is a linear map.

    Reference:
        Dauphin et al. 2017 (https://arxiv.org/abs/1612.08083); in a VAE, Tomczak & Welling 2018
        (https://arxiv.org/abs/1705.07120).

    Args:
        inputs: shape of one input.
        outputs: shape of one output.
        width: units of every hidden layer.
        depth: number of hidden layers.
        start: initialisation of the weights, see `networks.begin`; None as in torch's `nn.Linear`.
    """

    def __init__(
        self, inputs: Shape, outputs: Shape, width: int = 300, depth: int = 2, start: Start | None = None
    ) -> None:
        super().__init__(inputs, outputs)
        sizes = [prod(inputs), *[width] * depth]
        self.values = nn.ModuleList(begin(Linear(a, b), start) for a, b in pairwise(sizes))
        self.gates = nn.ModuleList(begin(Linear(a, b), start) for a, b in pairwise(sizes))
        self.last = begin(Linear(sizes[-1], prod(outputs)), start)

    @property
    def output_bias(self) -> nn.Parameter:  # type: ignore[override]  # a view of the last layer, registered once
        return self.last.bias

    def forward(self, x: Tensor) -> Tensor:
        h = x.reshape(-1, prod(self.inputs))
        for value, gate in zip(self.values, self.gates, strict=True):
            h = value(h) * torch.sigmoid(gate(h))
        return self.last(h).reshape(*x.shape[: x.dim() - len(self.inputs)], *self.outputs)
