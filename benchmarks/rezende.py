"""pythae's VAE under its own script's settings beside the record of configs/repeat/rezende.yaml: do they train alike?

    VAEBENCH_DATA=… python benchmarks/rezende.py [--epochs 18] [--every 6]

Adam at 1e-4 in batches of 100 on static MNIST, 400 rectifiers, 40 latents; the held-out bound, nats an image, one draw
of z an image. Needs `pip install -c constraints.txt -e ".[peers]"`. Twenty seconds an epoch on a busy core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from work import pythae_vae

from vaebench.data.binarized_mnist import BinarizedMNIST
from vaebench.records import read_records

LATENT, HIDDEN, BATCH = 40, 400, 100
RECORDS = Path(__file__).parent.parent / "results" / "repeat_rezende"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--every", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(123)
    data = BinarizedMNIST()
    train, held_out = (data.images(split).flatten(1) for split in ("train", "val"))
    curve = next(record.curves["val/elbo"] for record in read_records(RECORDS) if record.variant == "vae")
    ours = dict(zip(curve["step"], curve["value"], strict=True))
    encoder = nn.Sequential(nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784))
    model = pythae_vae(encoder, decoder, LATENT)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    print("| epoch | pythae | record |\n| --: | --: | --: |")
    for epoch in range(1, arguments.epochs + 1):
        for index in torch.randperm(len(train)).split(BATCH):
            optimizer.zero_grad()
            model({"data": train[index]}).loss.backward()
            optimizer.step()
        if epoch % arguments.every == 0:
            with torch.no_grad():
                losses = torch.stack([model({"data": part}).loss for part in held_out.split(1000)])
            print(f"| {epoch} | {-float(losses.mean()):.2f} | {ours[epoch * len(train) // BATCH]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
