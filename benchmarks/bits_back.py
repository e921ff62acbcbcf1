"""Judges the weights that Townsend et al. published for bits-back coding of binarised MNIST, and writes bits_back.json.

    python benchmarks/bits_back.py torch_binary_vae_params_random

The file is torch_vae/saved_params/torch_binary_vae_params_random of https://github.com/bits-back/bits-back, the code of
Townsend, Bird & Barber 2019 (https://arxiv.org/abs/1901.04866), which reports 0.19 bits a pixel for the bound. It is
read as tensors alone and checked by its SHA-256. Bits of the test images are drawn by vaebench: theirs have no seed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

import vaebench as vb
from vaebench.distributions import Bernoulli, DiagonalNormal
from vaebench.errors import UserError
from vaebench.files import write_atomically

WEIGHTS = "e8286cec36e78811abe50a3f9f069b8034628b6cf2d3d28ff407914aa73285b7"
FOUND = Path(__file__).with_name("bits_back.json")
K = 200


class Adapter(nn.Module):
    """Their VAE: 784-100-40-100-784 with rectifiers, whose encoder's second head is the logarithm of σ.

    Args:
        weights: a state_dict of theirs.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        hidden, self.latent = weights["fc1.bias"].shape[0], weights["fc21.bias"].shape[0]
        self.fc1 = nn.Linear(784, hidden)
        self.fc21, self.fc22 = nn.Linear(hidden, self.latent), nn.Linear(hidden, self.latent)
        self.fc3, self.fc4 = nn.Linear(self.latent, hidden), nn.Linear(hidden, 784)
        self.load_state_dict(weights)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x) of images (b, 1, 28, 28)."""
        h = self.fc1(x.flatten(1)).relu()
        return DiagonalNormal(self.fc21(h), self.fc22(h).exp())

    def prior(self) -> Distribution:
        """p(z)."""
        zeros = torch.zeros(self.latent, device=self.fc1.bias.device)
        return DiagonalNormal(zeros, zeros + 1)

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) of latents (*, latent)."""
        return Bernoulli(self.fc4(self.fc3(z).relu()).unflatten(-1, (1, 28, 28)), event=3)


def read(path: Path) -> dict[str, Tensor]:
    """The published tensors.

    Raises:
        UserError: it is another file.
    """
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != WEIGHTS:
        raise UserError(f"{path} has the SHA-256 {found} where {WEIGHTS} was expected; download it again")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="torch_binary_vae_params_random")
    begun = time.perf_counter()
    report = vb.evaluate(Adapter(read(parser.parse_args().weights)), vb.datasets()["mnist"](measure="binary"), k=K)
    figures = {name: [report.metrics[name].value, report.metrics[name].se]
               for name in ("elbo", "log_likelihood", "rate", "distortion")}  # fmt: skip
    bits = [abs(value) / (784 * math.log(2)) for value in figures["elbo"]]
    found = {"weights": WEIGHTS, "images": 10_000, "k": K, "seconds": round(time.perf_counter() - begun),
             "bits_per_dim_of_the_bound": bits, **figures}  # fmt: skip
    write_atomically(FOUND, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
