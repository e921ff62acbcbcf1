"""The default networks of pythae and MultiVae, under the names of their weights, so that neither need be installed."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from vaebench.measures import Shape

WIDTH = 512


class Encoder(nn.Module):
    """`Encoder_VAE_MLP` of pythae 0.1.2 (one hidden layer) and MultiVae 1.0 (two), or pythae's `Encoder_AE_MLP`.

    Args:
        data: shape of an image.
        latent: units.
        hidden: layers.
        gaussian: whether it has a log-variance.
    """

    def __init__(self, data: Shape, latent: int, hidden: int = 1, gaussian: bool = True) -> None:
        super().__init__()
        sizes = [prod(data), *[WIDTH] * hidden]
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes))
        self.embedding = nn.Linear(WIDTH, latent)
        self.log_var = nn.Linear(WIDTH, latent) if gaussian else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = x.flatten(1)
        for layer in self.layers:
            h = layer(h)
        return self.embedding(h) if self.log_var is None else (self.embedding(h), self.log_var(h))


class Decoder(nn.Module):
    """`Decoder_AE_MLP` of both: values in (0, 1)."""

    def __init__(self, data: Shape, latent: int) -> None:
        super().__init__()
        self.data = data
        self.layers = nn.ModuleList([
            nn.Sequential(nn.Linear(latent, WIDTH), nn.ReLU()),
            nn.Sequential(nn.Linear(WIDTH, prod(data)), nn.Sigmoid()),
        ])  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = layer(z)
        return z.unflatten(-1, self.data)
