"""One run trained by Lightning, alone on its device or over several processes."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from lightning import Callback, Trainer

from vaebench.core.captured import Captured, wanted
from vaebench.core.divergence import DivergenceWatch
from vaebench.errors import require_kernels
from vaebench.records import CHECKPOINT
from vaebench.training.checkpoint import require_loadable, write_checkpoint, write_config
from vaebench.training.experiment import Experiment
from vaebench.training.keeper import Keeper, SavesIO, TrainingProgress
from vaebench.training.saves import Saves
from vaebench.training.silence import quiet_lightning
from vaebench.training.trainer import callbacks as named_callbacks

BLOCK = 16  # batches per call of Lightning's loop, whose overhead is 0.1 ms
BYTES = 2**26  # of the images of a block, of which each is a float


def train(
    job: Experiment, work: Path, progress: TrainingProgress | None = None, callbacks: Sequence[Callback] = ()
) -> Path:
    """Trains one run; a population trains many at once.

    A run that was interrupted in the same folder resumes after its last saved epoch, with the same random state.

    Args:
        job: the run.
        work: its folder.
        progress: called after each epoch and about twice a second with (fraction done, latest metrics).
        callbacks: called after the history of an epoch is stored.

    Returns:
        `work/model.ckpt`, with the weights that `model.keep` selects.
    """
    try:
        return _train(job, work, progress, callbacks)
    finally:
        job.release()  # run after run, the images would pile up


def _train(job: Experiment, work: Path, progress: TrainingProgress | None, callbacks: Sequence[Callback]) -> Path:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    torch.set_flush_denormal(True)
    model, data = job.build()
    require_loadable(model)
    saves = Saves(work, job.identity(data))
    stopping = job.stopping()
    keeper = Keeper(saves.path, stopping, progress, job.seed)
    trainer = job.lightning_trainer(work, [*stopping.others, keeper, *callbacks])
    limits = job.budget(data, trainer.world_size)
    keeper.total, data.length, model.accumulate = limits.total, limits.length, limits.accumulate
    data.seed, model.watch = job.seed, DivergenceWatch()
    if wanted(device := trainer.strategy.root_device):
        model.captured = Captured(f"the training step of {type(model).__name__}", device)
        if not _takes_blocks(job, trainer):
            model.captured.give_up("its callbacks, profiler, logger or other processes take part in every step")
    most = min(BLOCK, BYTES // (4 * data.spec.dimensions * data.batch_size)) if _takes_blocks(job, trainer) else 1
    data.block = limits.accumulate * max(1, most // limits.accumulate)
    trainer.fit_loop.max_epochs = -1 if limits.epochs is None else limits.epochs
    trainer.fit_loop.min_epochs, trainer.limit_val_batches = limits.least, limits.validation
    trainer.strategy.checkpoint_io = SavesIO(saves)
    if trainer.is_global_zero:
        write_config(job, work)
    newest = saves.newest(partial(keeper.require, model=model))
    try:
        with quiet_lightning(), require_kernels():
            trainer.fit(model, data, ckpt_path=newest, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C, after which it leaves the signal ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    if trainer.is_global_zero:
        write_checkpoint(job, work, model, data, keeper.history, started)
        saves.remove()
    trainer.strategy.barrier()
    return work / CHECKPOINT


def _takes_blocks(job: Experiment, trainer: Trainer) -> bool:
    """Whether Lightning may process several batches per call: not with user callbacks, which count them.

    With several processes the overhead of a call is small compared with the exchange of gradients.
    """
    own = [path for path in named_callbacks(job.options) if path.rpartition(".")[2] != "EarlyStopping"]
    return trainer.world_size == 1 and not own and not job.options["profiler"] and not job.options["logger"]
