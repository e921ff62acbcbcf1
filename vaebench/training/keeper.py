"""Callback and checkpoint plugin of a Lightning training, for its history and its saves."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from vaebench.core import Family, batches, noise_state, set_noise_state
from vaebench.curves import EPOCH, SPEED, TRAIN, VAL
from vaebench.data._batches import mixed
from vaebench.training.history import TrainingHistory
from vaebench.training.saves import Saves, require_alike, write_tensors
from vaebench.training.stopping import Stopping

TrainingProgress = Callable[[float, Mapping[str, float]], None]


class Keeper(Callback):
    """Records the history of a training, stops it early, and saves its state.

    The state, including torch's random state, is saved after the first epoch and then every 20 seconds; an interrupted
    run resumes exactly. The noise of several processes follows from the seed, the epoch and the process alone.

    Args:
        path: of the save; see `Saves`.
        stopping: the run's early stopping.
        progress: called after each epoch and about twice a second with (fraction done, latest metrics), of which the
            running epoch, from 1, and the images a second since training began are some.
        seed: of the run.

    Attributes:
        total: number of training batches; None where only time or early stopping ends it.
    """

    EVERY = 20.0  # seconds; a save per epoch would take as long as a short epoch

    def __init__(self, path: Path, stopping: Stopping, progress: TrainingProgress | None = None, seed: int = 0) -> None:
        self.seed, self._device = seed, torch.device("cpu")
        self.path, self.history, self.stopping, self.progress = path, TrainingHistory(), stopping, progress
        self.total: int | None = None
        self._saved = -math.inf
        self._noise: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self.history), "noise": noise_state(self._device), "stopping": self.stopping.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        noise = state["noise"]
        if isinstance(noise.get("cuda"), list):  # of all visible GPUs, as former saves have it
            noise = {"cpu": noise["cpu"], **dict(zip(["cuda"], noise["cuda"], strict=False))}
        self._noise = noise
        self.stopping.load_state_dict(state["stopping"])
        self.history = TrainingHistory(
            **{name: value for name, value in state.items() if name not in ("noise", "stopping")}
        )

    def require(self, saved: Mapping[str, Any], model: LightningModule) -> None:
        """Checks that a save fits the model and this keeper, without restoring anything.

        Raises:
            KeyError, TypeError, ValueError: it does not.
        """
        require_alike(saved["state_dict"], model.state_dict())
        Keeper(self.path, deepcopy(self.stopping)).load_state_dict(saved["callbacks"][self.state_key])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._device = trainer.strategy.root_device
        if self._noise is not None and trainer.world_size == 1:
            self._restore(self._noise)
        trainer.should_stop = bool(self.history.stopped)  # killed between its last save and its end
        self.history.note_load()
        self._last = self._shown = self._began = time.perf_counter()
        self._images = self.history.images

    def _restore(self, noise: Mapping[str, Any]) -> None:
        """Continues the noise of a save, or warns where that is of another kind of device."""
        kind = self._device.type
        if noise.keys() == noise_state(self._device).keys():
            set_noise_state(noise, self._device)
        else:
            torch.set_rng_state(noise["cpu"])
            before = next((name for name in noise if name != "cpu"), "cpu")
            warnings.warn(
                f"the run was saved on {before} and goes on on {kind}: its noise from here on is not that "
                "of a run without the interruption",
                stacklevel=2,
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:  # whatever came before, such as an interruption
            torch.manual_seed(mixed(self.seed, trainer.current_epoch, trainer.global_rank))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.history.images += sum(len(x) for x, _ in batches(batch))
        several = trainer.world_size > 1
        pl_module.watch.look(partial(trainer.strategy.reduce, reduce_op="max") if several else None)
        if self.total is not None and pl_module.steps >= self.total:
            trainer.fit_loop.min_epochs = 0  # the budget overrides min_epochs
            trainer.should_stop = True  # validates first, also inside an epoch
        if self.progress and (now := time.perf_counter()) - self._shown > 0.5:
            self._shown = now
            self._show(pl_module)

    def _show(self, model: Family) -> None:
        """Calls `progress`; the fraction of training that is done is 0 where its length is unknown."""
        if self.progress is None:
            return
        seconds = max(time.perf_counter() - self._began, 1e-9)
        speed = (self.history.images - self._images) / seconds
        now = {EPOCH: float(model.current_epoch + 1), SPEED: speed}
        self.progress(model.steps / self.total if self.total else 0.0, {**self.history.latest(), **now})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.perf_counter()
        self.history.seconds, self._last = self.history.seconds + now - self._last, now
        self.history.note_load()
        self._measured(trainer, cast(Family, pl_module), TRAIN)
        if trainer.strategy.broadcast(now - self._saved > self.EVERY):  # saving waits for all ranks
            self._saved = now
            trainer.save_checkpoint(self.path)
        self._show(cast(Family, pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._measured(trainer, cast(Family, pl_module), VAL)

    def _measured(self, trainer: Trainer, model: Family, kind: str) -> None:
        """Records the latest metrics of one kind, 'train/' or 'val/', and applies early stopping to them."""
        metrics = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith(kind)}
        if kind == TRAIN:
            self.history.note(model.steps, metrics)
        else:
            self.history.validated(model, metrics)
        stopped = self.stopping.stops(model, metrics, kind)
        self.history.stopped |= stopped
        trainer.should_stop = trainer.should_stop or trainer.strategy.reduce_boolean_decision(bool(stopped), all=False)


class SavesIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints atomically, and this run's own through `Saves`.

    Lightning itself writes to the folder for temporary files; on another file system its move overwrites the previous
    checkpoint in place.

    Args:
        saves: of the run.
    """

    def __init__(self, saves: Saves) -> None:
        self.saves = saves

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        if Path(path) == self.saves.path:
            self.saves.save(checkpoint)
        else:
            write_tensors(Path(path), checkpoint)
