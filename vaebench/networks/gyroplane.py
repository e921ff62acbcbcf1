"""Layers on points of the Poincaré ball."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from vaebench.measures import Shape
from vaebench.networks import ACTIVATIONS, Activation, Linear, Network

EDGE = 1e-6  # smallest 1 − ‖z‖², the resolution of float32


@final
class GyroplaneMLP(Network):
    r"""Fully connected layers on signed distances of a point of the ball from hyperplanes.

    The hyperplane of unit k is orthogonal to a unit vector ŵ, at the signed tangent length u from the centre:

    .. math:: d_k(z) = \operatorname{asinh} \frac{2 \langle z, \hat w_k \rangle \cosh 2 u_k
              - (1 + \|z\|^2) \sinh 2 u_k}{1 - \|z\|^2}

    which is Ganea et al.'s distance asinh(2⟨−p ⊕ z, ŵ⟩ / (1 − ‖−p ⊕ z‖²)) from the hyperplane through p = tanh(u) ŵ,
    in the ball of curvature −1.

    Reference:
        Ganea et al. 2018 (https://arxiv.org/abs/1805.09112); as a decoder, Mathieu et al. 2019
        (https://arxiv.org/abs/1901.06033), also for the initialisation.

    Args:
        inputs: shape of one input, a point of the unit ball.
        outputs: shape of one output.
        width: hyperplanes, and units of every further hidden layer.
        depth: number of hidden layers, including the hyperplanes.
        activation: after every hidden layer.
    """

    def __init__(
        self, inputs: Shape, outputs: Shape, width: int = 600, depth: int = 1, activation: Activation = "relu"
    ) -> None:
        super().__init__(inputs, outputs)
        n = prod(inputs)
        self.normals = nn.Parameter(torch.randn(n, width) * (3 * n) ** -0.5)
        self.offsets = nn.Parameter((2 * torch.rand(width) - 1) * 4 * n**-0.5 * self.normals.detach().norm(dim=0))
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise([*[width] * depth, prod(outputs)]))
        self.activation = activation

    @property
    def output_bias(self) -> nn.Parameter:  # type: ignore[override]  # a view of the last layer, registered once
        return self.layers[-1].bias  # type: ignore[return-value]

    def distances(self, z: Tensor) -> Tensor:
        """Signed distances of points (b, n) from all hyperplanes, (b, width)."""
        square = z.square().sum(-1, keepdim=True)
        along = z @ (self.normals / self.normals.norm(dim=0).clamp(min=1e-12))
        over = 2 * along * torch.cosh(2 * self.offsets) - (1 + square) * torch.sinh(2 * self.offsets)
        return torch.asinh(over / (1 - square).clamp(min=EDGE))

    def forward(self, x: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        h = act(self.distances(x.reshape(-1, prod(self.inputs))))
        for layer in self.layers[:-1]:
            h = act(layer(h))
        return self.layers[-1](h).reshape(*x.shape[: x.dim() - len(self.inputs)], *self.outputs)
