"""One process of a training; run it by `torchrun`, or alone, with the folder to train in.

With a second argument, the number of an epoch, it only starts the run that is to resume, and is killed in that epoch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.overrides import TorchFunctionMode

from vaebench.running.recording import state_hash
from vaebench.training.experiment import experiment
from vaebench.training.models import load
from vaebench.training.population.noise import NORMAL
from vaebench.training.solo import train

COMMON = ["--data=lfw_patches", "--model.latent=3", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
RUNS = {
    "noiseless": ["--model=rae"],
    "still": ["--model=vae", "--model.lr=0"],
    "geco": ["--model=geco"],  # its multiplier follows the batches
    "cut": ["--model=factor_vae", "--trainer.max_steps=7", "--trainer.accumulate_grad_batches=2"],
    "aggressive": ["--model=aggressive_vae", "--model.check=1", "--model.cap=3"],
    "two stages": ["--model=two_stage_vae", "--model.pretrain=5"],
    "noisy": ["--model=vae"],
}
MEANS = ("aggressive", "two stages")  # of every Gaussian in place of samples, so that processes have one noise
RESUMED = "noisy"  # also trained with a kill in its course


class NoNoise(TorchFunctionMode):
    """Zeros in place of normal noise."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return torch.zeros_like(out) if func in NORMAL else out


class Kill(Callback):
    """Kills the process in an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGKILL)


class Last(Callback):
    """Sums of the weights after the last step, and a hash of all of them."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = [float(value.double().sum()) for value in pl_module.state_dict().values()]
        self.bits = state_hash(pl_module.state_dict())


def main(folder: Path, killed: int | None = None) -> None:
    """Trains every run, and writes what this rank ends with."""
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    shared = [f"--data.batch_size={32 // world}"]
    if world > 1:
        shared += [f"--trainer.devices={world}", "--trainer.strategy=ddp"]
    torch.set_num_threads(1)
    found = {}
    for name in [RESUMED] if killed is not None else [*RUNS, f"{RESUMED}, resumed"]:
        last, own = Last(), RUNS[name.partition(",")[0]]
        work = folder / (f"{RESUMED}, resumed" if killed is not None else name)
        with NoNoise() if name in MEANS else nullcontext():
            job = experiment([*own, *COMMON, *shared])
            checkpoint = train(job, work, callbacks=[last] if killed is None else [last, Kill(killed)])
        info = torch.load(checkpoint, weights_only=True)["vaebench"]
        kept = [float(value.detach().double().sum()) for value in load(checkpoint).parameters()]
        curve = info["curves"].get("val/elbo") or info["curves"]["val/log_x"]
        found[name] = {
            "weights": last.weights,
            "bits": last.bits,
            "kept": kept,
            "curve": curve["value"],
            "steps": curve["step"],
        }
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
