"""One trial over several devices: a `torchrun` child, whose rank 0 alone connects to the storage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from optuna import Trial

from vaebench.sweep.spec.spec import Sweep, read_sweep
from vaebench.sweep.storage.queue import patiently
from vaebench.sweep.storage.study import ADDRESS, connect, load_study
from vaebench.sweep.workers.pruning import PruningCallback
from vaebench.training.experiment import experiment
from vaebench.training.solo import train

PRUNED = "pruned"  # a file in the trial's folder


def train_distributed(sweep: Sweep, trial: Trial | None, args: list[str], scratch: Path, devices: int) -> bool:
    """Trains in `scratch` on several devices of this machine; True where the pruner stopped it.

    Args:
        sweep: the sweep.
        trial: receives reports of the bound; None reports nothing.
        args: arguments of `vaebench fit`, with devices and strategy.
        scratch: the trial's folder.
        devices: number of devices.

    Raises:
        RuntimeError: the child failed.
    """
    job = {
        "file": str(sweep.source.path),
        "trial": None if trial is None else trial._trial_id,
        "args": args,
        "scratch": str(scratch),
        "parent": os.getpid(),
    }
    scratch.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={devices}",
               "-m", __name__, json.dumps(job)]  # fmt: skip
    with subprocess.Popen(command, start_new_session=True) as child:
        try:
            code = child.wait()
        except BaseException:
            child.send_signal(signal.SIGTERM)  # torchrun passes it on
            raise
    if code:
        raise RuntimeError(f"the training over {devices} devices ended with code {code}; its worker's log says why")
    return (scratch / PRUNED).exists()


class Orphaned(Callback):
    """Ends a training whose worker has died, since another worker takes over its trial.

    Args:
        parent: the worker's process.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        try:
            os.kill(self.parent, 0)
        except ProcessLookupError:
            raise SystemExit("the worker is gone") from None


def main() -> None:
    """One rank."""
    job = json.loads(sys.argv[1])
    rank, scratch = int(os.environ["RANK"]), Path(job["scratch"])
    trial, prunes = None, False
    if rank == 0 and job["trial"] is not None:
        sweep = read_sweep(Path(job["file"]))
        storage = patiently(partial(connect, sweep, os.environ[ADDRESS]))
        study = patiently(partial(load_study, sweep, storage))
        trial, prunes = Trial(study, job["trial"]), sweep.pruner["name"] != "none"
    report = PruningCallback(trial, prunes)
    reports = [report] if job["trial"] is not None else []
    train(experiment(job["args"]), scratch, None, [*reports, Orphaned(job["parent"])])
    if rank == 0 and report.pruned:
        (scratch / PRUNED).touch()


if __name__ == "__main__":
    main()
