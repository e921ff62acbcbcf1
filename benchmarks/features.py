"""Trains the feature extractor that vaebench ships, mnist28, on MNIST's 50,000 training images and their labels.

    VAEBENCH_DATA=... python benchmarks/features.py vaebench/evaluation/extractors/mnist28.pt

Half of the images of every batch are grey and half are bits drawn anew, so that features serve both measures. It takes
about a minute, prints accuracies and the file's SHA-256, and repeats bit for bit on one thread of one kind of machine.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vaebench.data.mnist import MNIST
from vaebench.evaluation.estimators.features import Mnist28
from vaebench.files import write_atomically

SEED, EPOCHS, BATCH, RATE, SMOOTHING = 0, 12, 100, 2e-3, 0.05


def train(x: Tensor, y: Tensor) -> Mnist28:
    """A classifier of grey images x (n, 1, 28, 28) in [0, 1] and of bits drawn from them, with labels y (n,)."""
    torch.manual_seed(SEED)
    network = Mnist28()
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for epoch in range(EPOCHS):
        for index in torch.randperm(len(x))[: steps // EPOCHS * BATCH].split(BATCH):
            loss = F.cross_entropy(network.logits(mixed(x[index])), y[index], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        features = network(mixed(x))
        network.mean.copy_(features.mean(0))
        network.scale.copy_(features.std(0))
    return network.eval()


def mixed(x: Tensor) -> Tensor:
    """Each of the images x (b, 1, 28, 28) as it is or as bits, with equal probability."""
    bits = (torch.rand(len(x), 1, 1, 1) < 0.5).float()
    return bits * torch.bernoulli(x) + (1 - bits) * x


@torch.no_grad()
def accuracy(network: Mnist28, x: Tensor, y: Tensor) -> float:
    """Share of images whose digit is named, in per cent."""
    return 100 * float((network.logits(x).argmax(1) == y).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where the weights shall be written")
    path = parser.parse_args().file
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    grey = MNIST("discrete256")
    labels = {split: grey.labels(split) for split in ("train", "val", "test")}
    assert labels["train"] is not None
    network = train(grey.images("train"), labels["train"])
    for measure in ("discrete256", "binary"):
        data = MNIST(measure)
        for split in ("val", "test"):
            y = labels[split]
            assert y is not None
            print(f"{split}, {measure}: {accuracy(network, data.images(split), y):.2f} %")
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    write_atomically(path, buffer.getvalue())
    print(f"{len(buffer.getvalue()):,} bytes, SHA-256 {hashlib.sha256(buffer.getvalue()).hexdigest()}")


if __name__ == "__main__":
    main()
