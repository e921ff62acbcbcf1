"""Training images/s: `vaebench fit`'s path, a bare PyTorch loop and pythae's trainer, interleaved in one run.

    VAEBENCH_DATA=… .venv/bin/python benchmarks/training.py [--batch 128] [--epochs 3] [--rounds 5]

Needs static MNIST (downloaded where it is not at hand) and `pip install -c constraints.txt -e ".[peers]"`. All run with
denormals flushed, which `vaebench fit` sets by itself: the bare loop and pythae would be slower without.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from pathlib import Path

import torch
from work import Bare, interleaved, pythae_vae

from vaebench.data.binarized_mnist import BinarizedMNIST
from vaebench.training.experiment import experiment
from vaebench.training.solo import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    batch, epochs = arguments.batch, arguments.epochs
    torch.set_flush_denormal(True)
    images = BinarizedMNIST().images("train")
    flat = images.flatten(1)
    count = epochs * len(images)

    def bare() -> float:
        model = Bare()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        start = time.perf_counter()
        for _ in range(epochs):
            for index in torch.randperm(len(flat)).split(batch):
                optimizer.zero_grad()
                model(flat.index_select(0, index)).backward()
                optimizer.step()
        return count / (time.perf_counter() - start)

    def fit() -> float:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(__file__).parent.parent / "configs" / "family" / "vae.yaml"
            args = [f"--config={config}", "--data=binarized_mnist", f"--data.batch_size={batch}",
                    f"--trainer.max_epochs={epochs}", "--trainer.limit_val_batches=1"]  # fmt: skip
            checkpoint = train(experiment(args), Path(folder))
            return torch.load(checkpoint, weights_only=True)["vaebench"]["images_per_second"]

    def pythae() -> float:
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        bare = Bare()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            config = BaseTrainerConfig(
                output_dir=folder, num_epochs=epochs, learning_rate=1e-3, per_device_train_batch_size=batch,
                train_dataloader_num_workers=0, no_cuda=True,
            )  # fmt: skip
            trainer = BaseTrainer(pythae_vae(bare.encoder, bare.decoder), _dataset(images), training_config=config)
            trainer.prepare_training()
            start = time.perf_counter()
            for epoch in range(1, epochs + 1):
                trainer.train_step(epoch)
            return count / (time.perf_counter() - start)

    print(f"batch {batch}, {epochs} epochs of {len(images)} images, {torch.get_num_threads()} threads\n")
    contestants = {"bare loop, fused Adam": bare, "vaebench fit": fit, "pythae BaseTrainer": pythae}
    interleaved(contestants, arguments.rounds, "bare loop, fused Adam")


def _dataset(images: torch.Tensor) -> torch.utils.data.Dataset:
    from pythae.data.datasets import BaseDataset

    return BaseDataset(images, torch.zeros(len(images)))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main()
