"""The same models trained by pythae and by vaebench, both judged by this harness, and by pythae's own estimator.

    vaebench bench peers --results results                                       # vaebench's side
    OMP_NUM_THREADS=1 python benchmarks/peers.py [--results results] [--images 100]

Needs `pip install -c constraints.txt -e ".[peers]"`. configs/benchmark/peers.yaml says what is trained: images,
networks, start, optimiser, batches and epochs are the same on both sides, and bits are drawn anew. pythae's
models become records beside vaebench's, by an adapter that says which distributions their numbers stand for; a training
that has a record is not repeated. `python docs/peers.py` writes the table of docs/peers.md. `--images` is how many test
images pythae's own `get_nll` judges; it takes them one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from pythae.data.datasets import DatasetOutput
from pythae.models import (
    IWAE,
    VAE,
    VAE_IAF,
    VAMP,
    BaseAE,
    BetaVAE,
    BetaVAEConfig,
    IWAEConfig,
    VAE_IAF_Config,
    VAEConfig,
    VAMPConfig,
)  # fmt: skip
from pythae.models.normalizing_flows import IAF
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    Transform,
    TransformedDistribution,
    constraints,
)  # fmt: skip
from torch.utils.data import Dataset

import vaebench as vb
from vaebench.adapters.parts import Autoencoder, of_probabilities
from vaebench.data.digits import Digits
from vaebench.files.atomic import write_atomically
from vaebench.records import read_records

EPOCHS, BATCH, LATENT, SEEDS = 100, 128, 8, range(5)
SHARED: dict[str, Any] = {"input_dim": (1, 8, 8), "latent_dim": LATENT, "reconstruction_loss": "bce"}


class Bits(Dataset[DatasetOutput]):
    """Images (n, 1, 8, 8) of intensities in [0, 1], black or white by chance whenever they are looked at."""

    def __init__(self, intensities: Tensor) -> None:
        self.intensities = intensities

    def __len__(self) -> int:
        return len(self.intensities)

    def __getitem__(self, index: int) -> DatasetOutput:
        return DatasetOutput(data=torch.bernoulli(self.intensities[index]))


class Flowed(Transform):
    """pythae's inverse autoregressive flow, from noise to latents, with one step back for each latent."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, flow: IAF) -> None:
        super().__init__(cache_size=1)
        self.flow = flow
        self.last: Tensor | None = None

    def _call(self, x: Tensor) -> Tensor:
        made = self.flow.inverse(x.flatten(0, -2))
        self.last = made.log_abs_det_jac.view(x.shape[:-1])
        return cast(Tensor, made.out).view(x.shape)

    def _inverse(self, y: Tensor) -> Tensor:
        return cast(Tensor, self.flow(y.flatten(0, -2)).out).view(y.shape)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return cast(Tensor, self.flow.inverse(x.flatten(0, -2)).log_abs_det_jac).view(x.shape[:-1])


def gaussian(model: BaseAE, x: Tensor) -> Independent:
    """The Gaussian of pythae's encoder for images x (b, *data)."""
    code = model.encoder(x)
    return Independent(Normal(code.embedding, (code.log_covariance / 2).exp()), 1)


def vamp(model: VAMP) -> Distribution:
    """pythae's mixture of its posteriors at the pseudo-inputs."""
    inputs = model.pseudo_inputs(model.idle_input).view(-1, *SHARED["input_dim"])
    parts = gaussian(model, inputs)
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(inputs))), parts)


class Peer(NamedTuple):
    """A model of pythae's: how it is made, and what its adapter needs beside encoder and decoder."""

    make: Callable[[], BaseAE]
    posterior: Callable[[Any, Tensor], Distribution] = gaussian
    prior: Callable[[Any], Distribution] | None = None


PEERS = {
    "vae": Peer(lambda: VAE(VAEConfig(**SHARED))),
    "beta_vae": Peer(lambda: BetaVAE(BetaVAEConfig(beta=2.0, **SHARED))),
    "iwae": Peer(lambda: IWAE(IWAEConfig(number_samples=5, **SHARED))),
    "vampprior": Peer(lambda: VAMP(VAMPConfig(number_components=50, **SHARED)), prior=vamp),
    "iaf": Peer(
        lambda: VAE_IAF(VAE_IAF_Config(n_made_blocks=2, n_hidden_in_made=3, hidden_size=128, **SHARED)),
        lambda model, x: TransformedDistribution(gaussian(model, x), [Flowed(model.iaf_flow)]),
    ),
}


def trained(make: Callable[[], BaseAE], images: Tensor, seed: int) -> BaseAE:
    """The model after pythae's own training: its last weights, as vaebench's side keeps them."""
    torch.manual_seed(seed)
    config = {"per_device_train_batch_size": BATCH, "num_epochs": EPOCHS, "learning_rate": 1e-3, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(output_dir=folder, optimizer_cls="Adam", no_cuda=True, **config)
        trainer = BaseTrainer(make(), Bits(images), training_config=settings)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            trainer.train()
    return cast(BaseAE, trainer.model.eval())


def adapted(model: BaseAE, peer: Peer) -> Autoencoder:
    """The model in the contract of docs/adapters.md."""
    prior = peer.prior
    return Autoencoder(
        lambda x: peer.posterior(model, x),
        lambda z: model.decoder(z).reconstruction,
        of_probabilities,
        LATENT,
        None if prior is None else lambda: prior(model),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    logging.disable(logging.INFO)  # pythae's own, of every epoch
    data = Digits()
    levels = data.raw()["train"].images
    assert isinstance(levels, Tensor)  # and not in a file, as large sets are
    test = data.images("test")[: args.images]
    folder = args.results / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    done = {(record.variant, record.seed) for record in read_records(folder)}
    path = folder / "get_nll.json"
    own: dict[str, dict[str, float]] = json.loads(path.read_text())["nats"] if path.exists() else {}
    for name, peer in PEERS.items():
        variant = f"pythae_{name}"
        for seed in SEEDS:
            if (variant, seed) in done:
                continue
            model = trained(peer.make, levels.float() / (data.levels - 1), seed)
            with torch.no_grad():
                given = float(model.get_nll(test, n_samples=1000, batch_size=1000))
            own.setdefault(variant, {})[str(seed)] = given
            write_atomically(path, json.dumps({"images": args.images, "nats": own}, indent=1).encode())
            judged = vb.record(
                adapted(model, peer), data, variant, "refined", folder, trained_seed=seed, progress=False
            )
            here = judged.per_image()["encoder_log_likelihood"][: args.images].mean()
            print(
                f"{variant} seed {seed}: L_K with its encoder {here:.3f} nats here, {given:.3f} by get_nll", flush=True
            )


if __name__ == "__main__":
    main()
