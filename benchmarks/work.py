"""The work of every benchmark: an MLP VAE, 784-200-200-50 tanh, on static MNIST; bare, and as pythae has it."""

from __future__ import annotations

import gc
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT = 50


class Bare(nn.Module):
    """The same VAE as a page of PyTorch, as people write it."""

    def __init__(self) -> None:
        super().__init__()
        tanh = nn.Tanh
        self.encoder = nn.Sequential(nn.Linear(784, 200), tanh(), nn.Linear(200, 200), tanh(), nn.Linear(200, 100))
        self.decoder = nn.Sequential(nn.Linear(50, 200), tanh(), nn.Linear(200, 200), tanh(), nn.Linear(200, 784))

    def forward(self, x: Tensor) -> Tensor:
        mu, log_scale = self.encoder(x).chunk(2, -1)
        z = mu + torch.randn_like(mu) * log_scale.exp()
        distortion = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        rate = (0.5 * (mu**2 + (2 * log_scale).exp() - 1) - log_scale).sum()
        return (distortion + rate) / len(x)


def pythae_vae(encoder: nn.Module, decoder: nn.Module, latent: int = LATENT) -> nn.Module:
    """pythae's VAE around two networks: x -> (mean, log scale) side by side, z -> logits."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.latent_dim = encoder, latent

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_scale = self.net(x.reshape(len(x), -1)).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=2 * log_scale)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=torch.sigmoid(self.net(z)).reshape(-1, 1, 28, 28))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=latent, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder())


def pythae_adapter(model: nn.Module) -> nn.Module:
    """A pythae model in the adapter that docs/adapters.md shows, as it stands there."""
    page = (Path(__file__).parent.parent / "docs" / "adapters.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class Pythae" in block)
    names: dict[str, Any] = {}
    exec(block, names)
    return names["Pythae"](model)


def in_turn(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Runs every contestant once a round, in turn, and returns what each said in each round.

    Args:
        runs: name -> a function that does the work once and returns images a second.
        rounds: how often; one more is run before, and not counted.
    """
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            gc.collect()  # so that nobody's round has to look through what the others left
            gc.freeze()
            speed = run()
            if turn:
                speeds[name].append(speed)
    return speeds


def interleaved(runs: dict[str, Callable[[], float]], rounds: int, base: str) -> None:
    """Runs every contestant `in_turn` and prints medians with their ratio to the contestant `base`."""
    speeds = in_turn(runs, rounds)
    print(f"| {'contestant':44s} | images/s | × {base} | spread |\n| --- | ---: | ---: | ---: |")
    for name, values in speeds.items():
        ratio = statistics.median(v / b for v, b in zip(values, speeds[base], strict=True))
        print(f"| {name:44s} | {statistics.median(values):8.0f} | {ratio:.2f} | ± {spread(values):.0f} % |", flush=True)


def spread(values: list[float]) -> float:
    """Half the range of what was measured, in percent of its median."""
    return 50 * (max(values) - min(values)) / statistics.median(values)
