"""One process of a training; run it by `torchrun`, or alone, with the folder to train in."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from vaebench.api import load
from vaebench.training.experiment import experiment
from vaebench.training.solo import train

COMMON = ["--data=lfw_patches", "--model.latent=3", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
RUNS = {
    "noiseless": ["--model=rae"],
    "still": ["--model=vae", "--model.lr=0"],
    "geco": ["--model=geco"],  # its multiplier follows the batches
    "cut": ["--model=factor_vae", "--trainer.max_steps=7", "--trainer.accumulate_grad_batches=2"],
}


class Last(Callback):
    """Sums of the weights after the last step."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = [float(value.double().sum()) for value in pl_module.state_dict().values()]


def main(folder: Path) -> None:
    """Trains every run, and writes what this rank ends with."""
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    shared = [f"--data.batch_size={32 // world}"]
    if world > 1:
        shared += [f"--trainer.devices={world}", "--trainer.strategy=ddp"]
    torch.set_num_threads(1)
    found = {}
    for name, own in RUNS.items():
        last = Last()
        checkpoint = train(experiment([*own, *COMMON, *shared]), folder / name, callbacks=[last])
        info = torch.load(checkpoint, weights_only=True)["vaebench"]
        kept = [float(value.double().sum()) for value in load(checkpoint).state_dict().values()]
        curve = info["curves"].get("val/elbo") or info["curves"]["val/log_x"]
        found[name] = {"weights": last.weights, "kept": kept, "curve": curve["value"], "steps": curve["step"]}
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
